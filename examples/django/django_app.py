"""Django with several workers: what a view publishes reaches every browser, whichever worker served it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path, re_path
from django.views.static import serve

from pubsub.client import Publisher

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost"], SECRET_KEY="only for this example")

publisher = Publisher(os.environ.get("PUBSUB_URL", "http://localhost:8080"))


def news(request: HttpRequest) -> JsonResponse:
    """Publish a text. In a view that changes the database, publish in ``transaction.on_commit``."""
    told = {"text": json.loads(request.body)["text"], "worker": os.getpid()}
    published = publisher.publish("news", told)
    return JsonResponse({"seq": published.seq, "worker": os.getpid()})


urlpatterns = [
    path("news", news),
    re_path("(?P<path>.*)", serve, {"document_root": Path(__file__).parents[1]}),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
