"""Commands of `coupons`."""
