"""What the notifiers count. `config.metrics` shows it, with what is read at the time of asking."""

from prometheus_client import Counter, Histogram

DELIVERIES = Counter(
    "seonchak_deliveries_total",
    "Tries of deliveries, by channel and what came of them: sent, failed (and tried again), dead.",
    ["channel", "outcome"],
)
SEND_SECONDS = Histogram(
    "seonchak_delivery_seconds",
    "Time of a try, in seconds: one mail, one post, all frames that are published together.",
    ["channel"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
