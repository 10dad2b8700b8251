"""The one settings file of every environment: what differs comes from the environment.

Secrets are read from the files that the *_FILE variables name. Nothing secret has a default.
"""

from pathlib import Path

from config import env
from config.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent

# What served a page: shown on it, so that containers and hosts can be told apart.
ENVIRONMENT = env.slug("DJANGO_ENVIRONMENT")
SERVED_BY = env.choice("DJANGO_SERVED_BY", ("container", "host"))
RELEASE = env.text("DJANGO_RELEASE", "working tree")

DEBUG = env.boolean("DJANGO_DEBUG", default=False)
SECRET_KEY = env.secret("DJANGO_SECRET_KEY_FILE")

PUBLIC_URL = env.public_url("DJANGO_PUBLIC_URL")
ALLOWED_HOSTS = sorted({PUBLIC_URL.host, *env.hosts("DJANGO_ALLOWED_HOSTS")})

# TLS follows from the public address.
if PUBLIC_URL.is_https:
    SECURE_SSL_REDIRECT = True
    SECURE_SSL_HOST = PUBLIC_URL.netloc
    SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    # The proxy that ends TLS must set this header itself, whatever a visitor sent.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    CSRF_TRUSTED_ORIGINS = [PUBLIC_URL.origin]
else:
    # Browsers share cookies between the ports of a host: without names of their own, a login in
    # one environment would end the login in the other.
    SESSION_COOKIE_NAME = f"sessionid_{ENVIRONMENT}"
    CSRF_COOKIE_NAME = f"csrftoken_{ENVIRONMENT}"
    if PUBLIC_URL.is_loopback:
        # HSTS, redirect to https and the two secure cookies mean nothing without a network.
        # Anywhere else `check --deploy` shall complain.
        SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008", "security.W012"]
        SILENCED_SYSTEM_CHECKS += ["security.W016"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "core",
]

MIDDLEWARE = [
    # First, so that probes need neither https nor an allowed host.
    "config.health.HealthMiddleware",
    "config.visitors.VisitorMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": env.text("DATABASE_HOST"),
        "PORT": env.integer("DATABASE_PORT", 1, 65535, default=5432),
        "NAME": env.text("DATABASE_NAME"),
        "USER": env.text("DATABASE_USER"),
        "PASSWORD": env.secret("DATABASE_PASSWORD_FILE"),
        # One connection per gunicorn thread is kept for a minute and tested before it is used
        # again. The development server has a new thread per request: nothing to keep.
        "CONN_MAX_AGE": 0 if DEBUG else 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5, "application_name": f"django-{SERVED_BY}"},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_VALIDATORS = "django.contrib.auth.password_validation."
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{_VALIDATORS}UserAttributeSimilarityValidator"},
    {"NAME": f"{_VALIDATORS}MinimumLengthValidator"},
    {"NAME": f"{_VALIDATORS}CommonPasswordValidator"},
    {"NAME": f"{_VALIDATORS}NumericPasswordValidator"},
]

LANGUAGE_CODE = env.language("DJANGO_LANGUAGE_CODE", "en")
TIME_ZONE = env.time_zone("DJANGO_TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

# `collectstatic` compresses and hashes the files while the image is built.
STATIC_URL = "/static/"
STATIC_ROOT = env.path("DJANGO_STATIC_ROOT")
MEDIA_URL = "/media/"
MEDIA_ROOT = env.path("DJANGO_MEDIA_ROOT")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG

# Without a mail server, mails are printed.
EMAIL_HOST = env.text("EMAIL_HOST", "")
if EMAIL_HOST:
    EMAIL_SECURITY = env.choice("EMAIL_SECURITY", ("none", "starttls", "tls"))
    EMAIL_USE_TLS = EMAIL_SECURITY == "starttls"
    EMAIL_USE_SSL = EMAIL_SECURITY == "tls"
    EMAIL_PORT = env.integer("EMAIL_PORT", 1, 65535)
    EMAIL_HOST_USER = env.text("EMAIL_USER", "")
    EMAIL_HOST_PASSWORD = env.secret("EMAIL_PASSWORD_FILE") if EMAIL_HOST_USER else ""
    EMAIL_TIMEOUT = 10
    DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("EMAIL_FROM")
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

LOGGING = logging_config(
    env.choice("DJANGO_LOG_FORMAT", ("text", "json"), "text" if DEBUG else "json"),
    env.choice("DJANGO_LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO"),
)
