"""What the claim path and the workers count. `config.metrics` shows it, with what is read at the time of asking."""

from functools import cache

from prometheus_client import Counter, Histogram

CLAIMS = Counter("seonchak_claims_total", "Claims answered, by result.", ["result"])


@cache
def claims(result: str) -> Counter:
    """`CLAIMS` of one result: to look for it costs more than to count."""
    return CLAIMS.labels(result=result)


SCRIPT_SECONDS = Histogram(
    "seonchak_script_seconds",
    "Round trip of reserve.lua, in seconds.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
GROUP_CLAIMS = Histogram(
    "seonchak_group_claims", "Claims in one call of reserve.lua.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
DRAIN_BATCHES = Counter("seonchak_drain_batches_total", "Batches of claims written to the database.")
DRAIN_SECONDS = Histogram(
    "seonchak_drain_batch_seconds",
    "Time of a batch from its lock to its settling, in seconds.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0),
)
ISSUED = Counter("seonchak_coupons_issued_total", "Coupons issued.")
HELD = Counter("seonchak_coupons_held_total", "Coupons held until they are confirmed.")
REJECTED = Counter("seonchak_claims_rejected_total", "Claims accepted and then rejected, by reason.", ["reason"])
DRIFT = Counter("seonchak_drift_total", "Differences of Redis and database, by kind and outcome.", ["kind", "outcome"])
TASK_RETRIES = Counter("seonchak_task_retries_total", "Retries of Celery tasks, by task.", ["task"])
