"""The admin API's part on artifacts: what is staged, what is active; promote and roll back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from routeiq.access.principal import Principal
from routeiq.artifacts.errors import ArtifactError
from routeiq.artifacts.store import ArtifactStore
from routeiq.exceptions import InvalidRequest
from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.learning import Usable, verifier_of
from routeiq.gateway.runtime import Runtime
from routeiq.gateway.small_body import small_json
from routeiq.stores import Change

BASE = "/routeiq/v1/artifacts"


class Artifacts:
    """Handlers; each needs an admin key.

    A change is on disk before it is answered; every worker sees it in about `routeiq.learning.poll_s` seconds.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._folder = Path(runtime.config.settings.models_path)
        self._store = ArtifactStore(self._folder)
        self._verifier = verifier_of(runtime.config)
        self._usable = Usable(runtime.config.settings.embedder_path)

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {
            BASE: {"GET": self.list},
            f"{BASE}/stage": {"POST": self.stage},
            f"{BASE}/promote": {"POST": self.promote},
            f"{BASE}/rollback": {"POST": self.rollback},
        }

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every staged version, and how this worker last took one."""
        await self._require(scope, "artifacts.read")
        found = await self._tried(self._store.listing)
        await respond_json(
            send,
            {
                "data": [asdict(one) for one in found],
                "status": self._runtime.activation.status(),
                "strategies": self._runtime.router.strategy_reports(),
            },
        )

    async def stage(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Verify and copy an artifact that lies in ROUTEIQ_MODELS_PATH."""
        principal = await self._require(scope, "artifacts.write")
        body = await self._body(scope, receive)
        name = self._text(body, "folder")
        folder = self._inside(name)
        version = await self._tried(
            lambda: self._store.stage(folder, verifier=self._verifier, accept=self._usable)
        )
        await self._changed(scope, principal, "stage", {"version": version})
        await respond_json(send, {"version": version}, status=201)

    async def promote(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make a staged version the one that a strategy uses."""
        principal = await self._require(scope, "artifacts.write")
        body = await self._body(scope, receive)
        strategy, version = self._text(body, "strategy"), self._text(body, "version")
        now = await self._tried(
            lambda: self._store.promote(strategy, version, verifier=self._verifier)
        )
        await self._changed(scope, principal, "promote", {"strategy": strategy, **asdict(now)})
        await respond_json(send, {"strategy": strategy, **asdict(now)})

    async def rollback(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go back to the version before."""
        principal = await self._require(scope, "artifacts.write")
        strategy = self._text(await self._body(scope, receive), "strategy")
        now = await self._tried(lambda: self._store.rollback(strategy))
        await self._changed(scope, principal, "rollback", {"strategy": strategy, **asdict(now)})
        await respond_json(send, {"strategy": strategy, **asdict(now)})

    def _inside(self, name: str) -> Path:
        try:
            folder = (self._folder / name).resolve()
            inside = folder.is_relative_to(self._folder.resolve())
        except (ValueError, OSError):  # a NUL, a name that is too long
            inside = False
        if not inside:
            raise InvalidRequest("`folder` must be inside ROUTEIQ_MODELS_PATH.", param="folder")
        return folder

    async def _require(self, scope: Scope, permission: str) -> Principal:
        return await self._runtime.authenticator.require(scope["headers"], permission)

    async def _changed(
        self, scope: Scope, principal: Principal, action: str, details: dict[str, Any]
    ) -> None:
        """Note who did it, and let every worker look."""
        change = Change(
            actor=principal.alias,
            action=f"artifacts.{action}",
            target=str(details.get("strategy") or details.get("version")),
            details=details,
            request_id=scope["request_id"],
        )
        process = self._runtime.process
        await process.audit(change)
        await self._runtime.activation.look()
        await process.announce("artifacts", {})

    async def _body(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        return await small_json(scope, receive)

    def _text(self, body: dict[str, Any], name: str) -> str:
        value = body.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidRequest(f"`{name}` must be a non-empty string.", param=name)
        return value

    async def _tried(self, work: Callable[[], Any]) -> Any:
        """Run blocking work in a thread; what is wrong with an artifact is the caller's to know."""
        try:
            return await asyncio.to_thread(work)
        except (ArtifactError, ValueError, OSError) as error:
            raise InvalidRequest(str(error)) from error
