"""FastAPI with several workers: what any of them publishes reaches every browser, whichever worker served it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from pubsub.client import Client

SERVER = os.environ.get("PUBSUB_URL", "http://localhost:8080")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Client]]:
    """Give each worker one connection, which all of its requests share."""
    async with Client(SERVER, client_id=f"web-{os.getpid()}") as client:
        yield {"pubsub": client}


app = FastAPI(lifespan=lifespan)


class News(BaseModel):
    text: str


@app.post("/news")
async def publish(news: News, request: Request) -> dict[str, int]:
    told = {"text": news.text, "worker": os.getpid()}
    published = await request.state.pubsub.publish("news", told)
    return {"seq": published.seq, "worker": os.getpid()}


app.mount("/", StaticFiles(directory=Path(__file__).parents[1]))
