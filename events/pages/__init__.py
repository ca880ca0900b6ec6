"""The pages for visitors: the sales, one sale, what a refusal looks like. Server-rendered, usable without scripts."""
