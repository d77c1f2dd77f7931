"""AsyncEdgeClient: the methods of EdgeClient as coroutines. Each runs in a thread, so that the event loop is free."""

import asyncio
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from fedrec.ondevice.explanation import Explanation
from fedrec_client.edge.answers import Alike, Filters, Freshness, Installed, Recommendation, Reranked
from fedrec_client.edge.client import EdgeClient
from fedrec_client.store import Event, KeySource, Recorded

if TYPE_CHECKING:
    from fedrec.generate.base import LanguageModel
    from fedrec.generate.retell import Retold
    from fedrec_client.consent.report import Spending
    from fedrec_client.hosting import Server
    from fedrec_client.participation.stay import Participation, Plan
    from fedrec_client.releases.sync import Synced, SyncOptions


class AsyncEdgeClient:
    """A device's recommendations in asyncio. Make one by `await AsyncEdgeClient.open(...)`.

    Arguments, answers and errors are those of EdgeClient.
    """

    def __init__(self, client: EdgeClient) -> None:
        self.client = client

    @classmethod
    async def open(
        cls,
        path: str | Path,
        key: KeySource | None = None,
        *,
        model: str | Path | None = None,
        create: bool = True,
    ) -> "AsyncEdgeClient":
        """See `EdgeClient.open`."""
        return cls(await asyncio.to_thread(EdgeClient.open, path, key, model=model, create=create))

    async def close(self) -> None:
        """See `EdgeClient.close`."""
        await asyncio.to_thread(self.client.close)

    async def __aenter__(self) -> "AsyncEdgeClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def install(
        self, release: str | Path, *, public: str | Path | None = None, min_rating: float | None = None
    ) -> Installed:
        """See `EdgeClient.install`."""
        return await asyncio.to_thread(self.client.install, release, public=public, min_rating=min_rating)

    async def sync(
        self, url: str | None = None, *, keys: Sequence[str] = (), options: "SyncOptions | None" = None
    ) -> "Synced":
        """See `EdgeClient.sync`."""
        return await asyncio.to_thread(self.client.sync, url, keys=keys, options=options)

    async def record(
        self, item: str | int, event: str = "view", time: float | None = None, weight: float = 1.0
    ) -> Recorded:
        """See `EdgeClient.record`."""
        return await asyncio.to_thread(self.client.record, item, event, time, weight)

    async def record_all(self, events: Iterable[Event]) -> list[Recorded]:
        """See `EdgeClient.record_all`."""
        return await asyncio.to_thread(self.client.record_all, events)

    async def undo(self) -> Event | None:
        """See `EdgeClient.undo`."""
        return await asyncio.to_thread(self.client.undo)

    async def events(self) -> list[Recorded]:
        """See `EdgeClient.events`."""
        return await asyncio.to_thread(self.client.events)

    async def forget(
        self,
        item: str | int | None = None,
        *,
        before: float | None = None,
        since: float | None = None,
        everything: bool = False,
    ) -> int:
        """See `EdgeClient.forget`."""
        return await asyncio.to_thread(self.client.forget, item, before=before, since=since, everything=everything)

    async def export_my_data(self, file: str | Path | TextIO) -> int:
        """See `EdgeClient.export_my_data`."""
        return await asyncio.to_thread(self.client.export_my_data, file)

    async def recommend(
        self,
        k: int = 10,
        *,
        filters: Filters | None = None,
        diversity: float | None = None,
        freshness: Freshness | None = None,
        exclude_seen: bool = True,
        explore: float = 0.0,
        seed: int | None = None,
        friends: float = 0.0,
    ) -> list[Recommendation]:
        """See `EdgeClient.recommend`."""
        return await asyncio.to_thread(
            self.client.recommend,
            k,
            filters=filters,
            diversity=diversity,
            freshness=freshness,
            exclude_seen=exclude_seen,
            explore=explore,
            seed=seed,
            friends=friends,
        )

    async def explain(self, item: str | int) -> Explanation:
        """See `EdgeClient.explain`."""
        return await asyncio.to_thread(self.client.explain, item)

    async def retell(self, item: str | int, model: "LanguageModel") -> "Retold":
        """See `EdgeClient.retell`."""
        return await asyncio.to_thread(self.client.retell, item, model)

    async def rerank(
        self, wish: str, model: "LanguageModel", k: int = 10, *, pool: int = 20, filters: Filters | None = None
    ) -> Reranked:
        """See `EdgeClient.rerank`."""
        return await asyncio.to_thread(self.client.rerank, wish, model, k, pool=pool, filters=filters)

    async def similar(
        self, item: str | int, k: int = 10, measure: str = "cosine", threshold: float | None = None
    ) -> list[Alike]:
        """See `EdgeClient.similar`."""
        return await asyncio.to_thread(self.client.similar, item, k, measure, threshold)

    async def questionnaire(self, most: int = 12) -> dict[str, list[str]]:
        """See `EdgeClient.questionnaire`."""
        return await asyncio.to_thread(self.client.questionnaire, most)

    async def answer(self, chosen: Mapping[str, Collection[str]]) -> None:
        """See `EdgeClient.answer`."""
        await asyncio.to_thread(self.client.answer, chosen)

    async def set_attribute(self, name: str, value: str | None) -> None:
        """See `EdgeClient.set_attribute`."""
        await asyncio.to_thread(self.client.set_attribute, name, value)

    async def participate(
        self, server: "Server", items: str | Path, plan: "Plan | None" = None, *, catalogue: str | Path | None = None
    ) -> "Participation":
        """See `EdgeClient.participate`. A cancelled task ends the stay within a second."""
        from fedrec_client.participation.stay import Plan

        plan = Plan() if plan is None else plan
        stop = plan.stop or threading.Event()
        try:
            return await asyncio.to_thread(
                self.client.participate, server, items, replace(plan, stop=stop), catalogue=catalogue
            )
        except asyncio.CancelledError:
            stop.set()
            raise

    async def budget(self) -> "Spending":
        """See `EdgeClient.budget`."""
        return await asyncio.to_thread(self.client.budget)

    async def opt_out(self) -> None:
        """See `EdgeClient.opt_out`."""
        await asyncio.to_thread(self.client.opt_out)

    async def opt_in(self) -> None:
        """See `EdgeClient.opt_in`."""
        await asyncio.to_thread(self.client.opt_in)
