"""Every setting of Seonchak, read once from the environment.

A setting that is missing or of the wrong type stops the start with one line that names it. What is set in the
environment wins; what is not is read from `.seonchak/env`, which `make run` and `make demo` write.
"""

import os
import re
import sys
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Any, NoReturn

import environ
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import token_keys
from events.redis import client as stock_client

BASE_DIR = Path(__file__).resolve().parent.parent
LOCAL_DIR = Path(os.environ.get("SEONCHAK_DIR") or BASE_DIR / ".seonchak")

env = environ.Env()
env.read_env(LOCAL_DIR / "env")


def _stop(message: str) -> NoReturn:
    """End the process with one line. A setting is the operator's to mend; a traceback only hides its name."""
    sys.exit(f"seonchak: {message}")


def _required(name: str, what: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        _stop(f"{name} is not set. It is {what}. (`make run` sets it for you; README.md lists all settings.)")
    return value


def _secret(name: str, value: str, *, least: int = 32) -> str:
    if len(value) < least:
        _stop(f"{name} is too short: {least} characters or more")
    return value


def _url(name: str, what: str, schemes: tuple[str, ...]) -> str:
    value = _required(name, what)
    if value.split("://", 1)[0] not in schemes:
        # The value may hold a password: it is never printed.
        _stop(f"{name} must be a URL that starts with one of {', '.join(f'{s}://' for s in schemes)}")
    return value


def _text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def _number(name: str, default: float, low: float, high: float) -> float:
    raw = os.environ.get(name, "").strip() or str(default)
    try:
        value = float(raw)
    except ValueError:
        _stop(f"{name} must be a number from {low:g} to {high:g}, not {raw!r}")
    if not low <= value <= high:
        _stop(f"{name} must be a number from {low:g} to {high:g}, not {raw!r}")
    return value


def _flag(name: str, *, default: bool) -> bool:
    raw = os.environ.get(name, "").strip().lower() or str(default).lower()
    if raw not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
        _stop(f"{name} must be true or false, not {raw!r}")
    return raw in {"true", "1", "yes", "on"}


def _rate(name: str, default: str) -> str:
    rate = os.environ.get(name, "").strip() or default
    if not re.fullmatch(r"[1-9]\d*/([1-9]\d*)?[smhd]", rate):
        _stop(f"{name} must be a number a period of s, m, h or d, such as 10/m or 100/15m, not {rate!r}")
    return rate


# --- Who we are -------------------------------------------------------------------------------------------------------

SECRET_KEY = _secret("SECRET_KEY", _required("SECRET_KEY", "a long random string that signs sessions"))
DEBUG = _flag("DEBUG", default=False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "config.apps.ConfigApp",
    "notifications",
    "events",
    "coupons",
]

MIDDLEWARE = [
    "config.middleware.RequestLogMiddleware",
    "config.middleware.DatabasePatienceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.static.StaticFilesMiddleware",
    "config.middleware.SharedMiddleware",
    "config.middleware.ApiGuardMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "config.middleware.LanguageMiddleware",
    "config.middleware.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
LOGIN_URL = "/accounts/login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- PostgreSQL: the truth --------------------------------------------------------------------------------------------

_url("DATABASE_URL", "where PostgreSQL is: postgresql://user:password@host:5432/name", ("postgresql", "postgres"))
try:
    _database: dict[str, Any] = dict(env.db_url("DATABASE_URL"))
except (ImproperlyConfigured, ValueError):
    _stop("DATABASE_URL cannot be read: postgresql://user:password@host:5432/name")
# A worker that is stuck may hold the drain lock for the two of them together, and no longer.
DATABASE_STATEMENT_TIMEOUT = _number("DATABASE_STATEMENT_TIMEOUT", 15, 0.1, 3600)  # seconds
DATABASE_IDLE_TIMEOUT = _number("DATABASE_IDLE_TIMEOUT", 10, 0.1, 3600)  # seconds, idle within a transaction
# A server that hangs runs no timeout: this one is ours, and what API requests and customers' pages wait altogether.
DATABASE_REQUEST_TIMEOUT = _number("DATABASE_REQUEST_TIMEOUT", 0.5, 0.05, 60)  # seconds
DATABASE_POOL_SIZE = int(_number("DATABASE_POOL_SIZE", 8, 1, 500))
# Claims that a process writes at once while a sale goes on without Redis; the rest is told to come again. And so many
# polls may wait for a PostgreSQL that is slow: the other threads are for claims.
DATABASE_CLAIMS = int(_number("DATABASE_CLAIMS", 2, 1, 100))
_server_settings = {
    "statement_timeout": int(DATABASE_STATEMENT_TIMEOUT * 1000),
    "lock_timeout": int(DATABASE_STATEMENT_TIMEOUT * 1000),
    "idle_in_transaction_session_timeout": int(DATABASE_IDLE_TIMEOUT * 1000),
    # Statements that we gave up end within a second, instead of waiting for their lock and for max_connections.
    "client_connection_check_interval": 1000,
}
_database["ENGINE"] = "config.postgresql"
_database["CONN_MAX_AGE"] = 0  # the pool keeps them
_database["OPTIONS"] = {
    **_database.get("OPTIONS", {}),
    "connect_timeout": 1,
    "options": " ".join(f"-c {name}={milliseconds}" for name, milliseconds in _server_settings.items()),
    "pool": {
        "min_size": 0,
        "max_size": DATABASE_POOL_SIZE,
        "timeout": DATABASE_REQUEST_TIMEOUT,
        # To connect is tried twice while the caller waits, then given up: the next caller begins anew. With the
        # pool's own 300 s the pauses double, and one of 16 s may have begun just before PostgreSQL came back.
        "reconnect_timeout": DATABASE_REQUEST_TIMEOUT / 2,
    },
}
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis (or Valkey): stock, cache, broker --------------------------------------------------------------------------

_REDIS = ("redis", "rediss", "unix", "valkey")


def _redis_url(name: str, what: str, schemes: tuple[str, ...]) -> str:
    # The clients of the cache and of Celery know a Valkey by Redis' name only.
    return re.sub("^valkey:", "redis:", _url(name, what, schemes))


STOCK_REDIS_URL = _url("STOCK_REDIS_URL", "the Redis that holds the stock: redis://host:6379/0", stock_client.SCHEMES)
try:
    stock_client.parse(STOCK_REDIS_URL)
except ValueError as error:
    _stop(f"STOCK_REDIS_URL {error}")
CACHE_URL = _redis_url("CACHE_URL", "the Redis of the rate limits: redis://host:6379/1", _REDIS)

# The claim path waits this long for Redis, and asks once: a script that was retried by the client has been seen to run
# eleven times. A caller's own retry is safe, because the script knows the claim again.
STOCK_REDIS_TIMEOUT = _number("STOCK_REDIS_TIMEOUT", 0.25, 0.01, 10)  # seconds
# Workers and commands read a thousand claims at a time and may wait for them. A worker that waits holds a drain lock.
STOCK_REDIS_BULK_TIMEOUT = _number("STOCK_REDIS_BULK_TIMEOUT", 5, 0.1, 60)  # seconds

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": CACHE_URL,
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": 0.25,
            "SOCKET_TIMEOUT": 0.25,
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0), "max_connections": 256},
        },
    },
}

# --- Celery: messages are nudges, losing all of them loses nothing ----------------------------------------------------

BROKER_URL = _redis_url(
    "BROKER_URL",
    "the broker of Celery: redis://host:6379/2 or amqp://user:password@host:5672/vhost",
    ("redis", "rediss", "valkey", "redis+socket", "amqp", "amqps"),
)
CELERY_BROKER_URL = BROKER_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker for ever; Celery's own 100 times end it
# In seconds. Without them a publish to a broker that hangs blocks for ever; and each transport is silent about options
# that it does not know.
_BROKER_TIMEOUTS = {
    "redis": {
        "socket_connect_timeout": 2,
        "socket_timeout": 5,
        "ack_emulation": False,  # see config.celery
        "health_check_interval": 10,  # a worker cut off without a word is back in half a minute, not in one
    },
    "amqp": {
        "connect_timeout": 2,
        "read_timeout": 5,
        "write_timeout": 5,
    },
}
CELERY_BROKER_TRANSPORT_OPTIONS = _BROKER_TIMEOUTS["amqp" if BROKER_URL.startswith("amqp") else "redis"]
# AMQP's own, which the worker's connection asks for: 20 s without a sign of life, and it connects anew.
CELERY_BROKER_HEARTBEAT = 10
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# After so many tasks Celery closes the connection pool of a prefork worker's process, by default after each of them
# (celery #10554): all connected anew, and the thread that stands by found it closed. Never here: `config.connections`.
CELERY_DB_REUSE_MAX = sys.maxsize
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = env.str("BEAT_SCHEDULE_FILE", default=str(LOCAL_DIR / "beat-schedule"))
# An `expires` as long as the interval: sweeps that nobody took in time are worth nothing and must not pile up.
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "coupons.tasks.sweep", "schedule": 1.0, "options": {"expires": 1}},
    "reconcile": {"task": "coupons.tasks.reconcile_all", "schedule": 60.0, "options": {"expires": 60}},
    "checkpoint": {"task": "events.tasks.checkpoint_rooms", "schedule": 1.0, "options": {"expires": 1}},
    "sweep-rooms": {"task": "events.tasks.sweep_rooms", "schedule": 3600.0, "options": {"expires": 3600}},
    "fan_out": {"task": "notifications.tasks.fan_out", "schedule": 1.0, "options": {"expires": 1}},
    "purge": {"task": "notifications.tasks.purge", "schedule": 3600.0, "options": {"expires": 3600}},
    "remind": {"task": "events.tasks.remind", "schedule": 10.0, "options": {"expires": 10}},
}
# A queue of its own, and a process (the notifier): nothing that hangs there holds up issuing.
CELERY_TASK_ROUTES = {
    "notifications.tasks.*": {"queue": "notifications"},
    "events.tasks.remind": {"queue": "notifications"},
}

# --- Notifications: by which ways users are told ----------------------------------------------------------------------

# What links in mails and pushes begin with.
PUBLIC_URL = _text("PUBLIC_URL", "http://localhost:8000").rstrip("/")
if not re.fullmatch(r"https?://[^/\s]+", PUBLIC_URL):
    _stop("PUBLIC_URL must be what visitors type, without a path: https://coupons.example.com")

# E-mail, from this address, over the server that EMAIL_URL names; without one none is sent.
DEFAULT_FROM_EMAIL = _text("EMAIL_FROM", "Seonchak <noreply@localhost>")
if not re.fullmatch(r"[^@\s]+@[^@\s]+", parseaddr(DEFAULT_FROM_EMAIL)[1]):
    _stop("EMAIL_FROM must be an address, with a name or without: Seonchak <noreply@example.com>")
EMAIL_ON = bool(_text("EMAIL_URL"))
if EMAIL_ON:
    _url("EMAIL_URL", "", ("smtp", "smtps", "smtp+tls", "smtp+ssl"))
    try:
        _email = env.email_url("EMAIL_URL")
        EMAIL_HOST, EMAIL_PORT = _email["EMAIL_HOST"], _email["EMAIL_PORT"] or 25
    except (ImproperlyConfigured, ValueError):
        _stop("EMAIL_URL cannot be read: smtp+tls://user:password@host:587")
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _email["EMAIL_HOST_USER"] or "", _email["EMAIL_HOST_PASSWORD"] or ""
    EMAIL_USE_TLS, EMAIL_USE_SSL = _email.get("EMAIL_USE_TLS", False), _email.get("EMAIL_USE_SSL", False)
# Seconds that each answer of the server is waited for: a handful of them are well within the lease of a delivery.
EMAIL_TIMEOUT = _number("EMAIL_TIMEOUT", 10, 0.1, 15)

# Web Push, signed by this key (32 bytes in base64url, of `manage.py vapid_key`); without one none is sent. The push
# services may write to the contact.
VAPID_PRIVATE_KEY = _text("VAPID_PRIVATE_KEY").rstrip("=")
if VAPID_PRIVATE_KEY and not re.fullmatch(r"[A-Za-z0-9_-]{43}", VAPID_PRIVATE_KEY):
    _stop("VAPID_PRIVATE_KEY must be 32 bytes in base64url; `manage.py vapid_key` makes one")
VAPID_CONTACT = _text("VAPID_CONTACT", "mailto:noreply@localhost")
if not VAPID_CONTACT.startswith(("mailto:", "https://")):
    _stop("VAPID_CONTACT must be a mailto: or an https: address")

# Webhooks and Web Push go to addresses that others name. Private ones, and plain http, are refused unless this is set,
# which is for development: with it whoever may name an address can reach what only this machine can.
OUTBOUND_PRIVATE = _flag("OUTBOUND_PRIVATE", default=False)
OUTBOUND_TIMEOUT = _number("OUTBOUND_TIMEOUT", 10, 0.1, 25)  # seconds from connecting to the end of the answer
OUTBOUND_CA = _text("OUTBOUND_CA")  # a file of authorities to trust instead of the public ones
if OUTBOUND_CA and not Path(OUTBOUND_CA).is_file():
    _stop("OUTBOUND_CA is no file")

# A delivery that fails is tried again after so many seconds, then after twice as many, up to an hour; and is given up
# after so many tries, which is after about two hours.
DELIVERY_BACKOFF = _number("DELIVERY_BACKOFF", 5, 0.01, 3600)  # seconds
DELIVERY_ATTEMPTS = int(_number("DELIVERY_ATTEMPTS", 12, 1, 100))
# So far back goes the log of deliveries. Nothing is tried for as long as a week, the least.
DELIVERIES_KEPT = int(_number("DELIVERIES_KEPT", 90, 7, 3650))  # days
# Who asked to be reminded of a sale is told so long before it opens.
REMIND_BEFORE = _number("REMIND_BEFORE", 600, 10, 86400)  # seconds

# --- Waiting rooms ----------------------------------------------------------------------------------------------------

# Users of this group (of Django's, made in the admin) are let in before all others, by a claim in their tokens.
FIRST_LANE_GROUP = env.str("FIRST_LANE_GROUP", default="first lane")

# --- The gate ---------------------------------------------------------------------------------------------------------

# Claims that go into one call of the script, and claims of an event that may wait for the next: a fifth of a
# millisecond is asked of Redis for so many, and half a second of everybody behind so many.
GATE_GROUP = int(_number("GATE_GROUP", 128, 1, 1000))
GATE_WAITING = int(_number("GATE_WAITING", 10_000, 1, 1_000_000))
# Threads that wait for a Redis behind Sentinels or a cluster (a single one is asked without): one an event that is
# rushed to, and one more for its polls.
GATE_REDIS_THREADS = int(_number("GATE_REDIS_THREADS", 8, 1, 500))
# Requests that are Django's and served at once: pages, the admin, what is not of a plain form. A thousand more wait,
# and the next is refused.
GATE_DJANGO_THREADS = int(_number("GATE_DJANGO_THREADS", 16, 1, 1000))
# Threads that wait for PostgreSQL, for events unheard of, old claims, and sales that go on without Redis.
GATE_DATABASE_THREADS = int(_number("GATE_DATABASE_THREADS", 4, 1, 500))

# --- WebSockets (docs/live.md) ----------------------------------------------------------------------------------------

# Pages of these origins may connect, beside our own: `https://shop.example.com`.
LIVE_ORIGINS: list[str] = env.list("LIVE_ORIGINS", default=[])
# Of a process. Fewer than its connections (SERVER_CONNECTIONS): those who watch leave some to those who claim.
LIVE_SOCKETS = int(_number("LIVE_SOCKETS", 10_000, 1, 1_000_000))
LIVE_SOCKETS_PER_USER = int(_number("LIVE_SOCKETS_PER_USER", 8, 1, 1000))  # in a process
LIVE_MESSAGE_LIMIT = 10 * 1024  # bytes of a client's message; the longest is a token
# Seconds in which a client must say who it is, where it has to. In which it must take what it is sent. Between pings.
LIVE_AUTH_TIMEOUT = _number("LIVE_AUTH_TIMEOUT", 5, 0.1, 60)
LIVE_SEND_TIMEOUT = _number("LIVE_SEND_TIMEOUT", 10, 0.1, 300)
LIVE_PING = _number("LIVE_PING", 25, 0.1, 50)

# --- The servers (config.serve) ---------------------------------------------------------------------------------------

# Processes on this machine: of the gate one a core that Redis leaves, of web as many as the admin and the pages need.
GATE_PROCESSES = int(_number("GATE_PROCESSES", 1, 1, 256))
WEB_PROCESSES = int(_number("WEB_PROCESSES", 2, 1, 256))
WEB_THREADS = int(_number("WEB_THREADS", 4, 1, 256))  # a process
# Connections that one process holds, idle ones counted; who comes beyond waits until another goes. Each is an open
# file.
SERVER_CONNECTIONS = int(_number("SERVER_CONNECTIONS", 12_000, 100, 1_000_000))
# Connections that wait to be taken, when all come in one moment. Linux cuts it to `net.core.somaxconn`.
SERVER_BACKLOG = int(_number("SERVER_BACKLOG", 16_384, 128, 1_000_000))
# A connection without a request is closed after so long. A proxy in front must close its own sooner, or it meets the
# end of one that it has just sent a request into.
SERVER_KEEP_ALIVE = _number("SERVER_KEEP_ALIVE", 30, 1, 60)  # seconds
# At a stop, requests under way have so long to be answered. Whoever starts us must wait longer before a kill.
SERVER_STOP_TIMEOUT = int(_number("SERVER_STOP_TIMEOUT", 20, 1, 1800))  # seconds

# --- REST API ---------------------------------------------------------------------------------------------------------

API_BODY_LIMIT = 16 * 1024  # bytes
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["config.tokens.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["config.api.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.api.OrjsonParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.api.JsonNegotiation",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_METADATA_CLASS": "config.api.NoMetadata",
    "DATETIME_FORMAT": None,  # the renderer writes moments, all in UTC
    "DEFAULT_PAGINATION_CLASS": "config.api.PageNumberPagination",
    "PAGE_SIZE": 50,
    "DEFAULT_SCHEMA_CLASS": "config.schema.ProblemSchema",
    "EXCEPTION_HANDLER": "config.problems.handle_exception",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_VERSIONING_CLASS": None,
}

_secret_of_tokens = _secret("JWT_SIGNING_KEY", os.environ.get("JWT_SIGNING_KEY", "").strip() or SECRET_KEY)
try:
    TOKEN_KEYS = token_keys.chosen(os.environ, secret=_secret_of_tokens)
except ValueError as error:
    _stop(str(error))
SIGNING_KEY = TOKEN_KEYS.signing
SIMPLE_JWT: dict[str, Any] = {
    "ALGORITHM": TOKEN_KEYS.algorithm,
    "SIGNING_KEY": SIGNING_KEY,
    "VERIFYING_KEY": TOKEN_KEYS.verifying,
    "ISSUER": env.str("JWT_ISSUER", default="") or None,
    "AUDIENCE": env.str("JWT_AUDIENCE", default="") or None,
    "ACCESS_TOKEN_LIFETIME": timedelta(seconds=_number("JWT_ACCESS_SECONDS", 3600, 10, 86400)),
    "REFRESH_TOKEN_LIFETIME": timedelta(seconds=_number("JWT_REFRESH_SECONDS", 14 * 86400, 60, 365 * 86400)),
    "USER_ID_CLAIM": "user_id",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Seonchak",
    "DESCRIPTION": "First come, first served: exactly N coupons, one each, in order.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "PATH_CONVERTER_OVERRIDES": {
        "event_id": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "coupon_code": {"type": "string", "pattern": "^[0-9A-Za-z-]{1,24}$"},
    },
    "ENUM_NAME_OVERRIDES": {
        "PhaseEnum": "events.models.Phase",
        "ClaimStatusEnum": ["pending", "issued", "rejected"],
        "RejectionReasonEnum": "coupons.models.FailedClaim.Reason",
        "NotificationKindEnum": "notifications.models.Notification.Kind",
    },
}

# --- Sign-in limits (django-ratelimit) --------------------------------------------------------------------------------

# How many proxies of ours stand in front. Each appends the address it saw to X-Forwarded-For; anything further left was
# written by the client and is not believed. 0: the header is not read at all.
TRUSTED_PROXIES = int(_number("TRUSTED_PROXIES", 0, 0, 10))
RATELIMIT_USE_CACHE = "default"
RATELIMIT_IP_META_KEY = "config.ratelimits.client_address"
SIGN_IN_RATE_PER_ACCOUNT = _rate("SIGN_IN_RATE_PER_ACCOUNT", "10/m")
SIGN_IN_RATE_PER_ADDRESS = _rate("SIGN_IN_RATE_PER_ADDRESS", "60/m")

# --- Pages, time, language --------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_ROOT = BASE_DIR / "static" / "root"  # at `/`: a service worker serves the paths below its own
WHITENOISE_USE_FINDERS = True  # straight from the packages: nothing to collect beforehand
LANGUAGE_CODE = "en"  # of what is told to programs and operators' terminals; visitors have a language of their own
LANGUAGES = [("ko", "한국어"), ("en", "English")]
# For visitors whose browser asks for none of these.
DEFAULT_LANGUAGE = env.str("DEFAULT_LANGUAGE", default="ko")
if DEFAULT_LANGUAGE not in dict(LANGUAGES):
    _stop(f"DEFAULT_LANGUAGE must be {' or '.join(dict(LANGUAGES))}, not {DEFAULT_LANGUAGE!r}")
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGE_COOKIE_AGE = 365 * 86400  # seconds
LANGUAGE_COOKIE_SAMESITE = "Lax"
TIME_ZONE = env.str("TIME_ZONE", default="Asia/Seoul")
USE_TZ = True
USE_I18N = True

SESSION_COOKIE_HTTPONLY = True
SECURE_HTTPS = _flag("SECURE_HTTPS", default=False)  # behind TLS: secure cookies and HSTS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = SECURE_HTTPS
SECURE_HSTS_SECONDS = 31536000 if SECURE_HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_HTTPS and TRUSTED_PROXIES else None
X_FRAME_OPTIONS = "DENY"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

UNFOLD = {
    "SITE_TITLE": "Seonchak",
    "SITE_HEADER": "Seonchak",
    "SITE_SYMBOL": "confirmation_number",
    "SHOW_LANGUAGES": True,
    # A browser that is told of none asks for /favicon.ico, and is told that there is none.
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}pages/icon.svg"}],
}

# --- What we tell -----------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
    _stop(f"LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not {LOG_LEVEL!r}")
LOGGING_CONFIG = None  # config.logs sets structlog and the standard library up together

# Whoever can reach /metrics may read it, unless a token is asked for here: set one where the path can be reached from
# outside. Prometheus sends it as `authorization: {credentials: …}`.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

# Workers and notifiers serve no HTTP: where this is set, `0.0.0.0:9100` say, they tell their counts there.
METRICS_LISTEN: tuple[str, int] | None = None
if _listen := _text("METRICS_LISTEN"):
    _host, _, _port = _listen.rpartition(":")
    if not _host or not re.fullmatch(r"[1-9]\d{0,4}", _port):
        _stop(f"METRICS_LISTEN must be an address and a port, such as 0.0.0.0:9100, not {_listen!r}")
    METRICS_LISTEN = _host, int(_port)

# Where the processes of one machine put their counts, so that one /metrics tells them all. prometheus-client reads the
# variable when it is first imported; unset, each process tells its own.
METRICS_DIR = env.str("PROMETHEUS_MULTIPROC_DIR", default="")
if not METRICS_DIR:
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # set and empty, it would mean the current folder
if METRICS_DIR and not Path(METRICS_DIR).is_dir():
    _stop(f"PROMETHEUS_MULTIPROC_DIR is no folder: {METRICS_DIR}")
