"""A helper in this process, reached through the bytes of its messages; every request meets a helper that restarted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedrec_server.helper.keys import HelperKeys
from fedrec_server.helper.link import HelperAway, HelperRefused
from fedrec_server.helper.messages import CosignRequest, HelperAnswer, RoundRequest
from fedrec_server.helper.service import HeadUnknown, HelperService

from fedrec.errors import FedrecError


class Nearby:
    """A helper in `folder`. asked: what it was asked to open, and its folder before each. away: requests to lose."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.options = folder, options
        self.keys, _ = HelperKeys.made(folder)
        self.named = replace(self.keys.public.helper, address="https://helper.example.org:9443")
        self.cards: list[CosignRequest] = []
        self.asked: list[RoundRequest] = []
        self.before: Callable[[RoundRequest], None] = lambda _: None
        self.twist: Callable[[HelperAnswer], HelperAnswer] = lambda answer: answer

    @property
    def service(self) -> HelperService:
        return HelperService(self.folder, HelperKeys(self.folder), **self.options)

    def there(self, until: float) -> None: ...

    def cosign(self, asked: CosignRequest, until: float) -> HelperAnswer:
        self.cards.append(asked)
        return self._carried(lambda: self.service.cosign(CosignRequest.decode(asked.encode())))

    def open(self, asked: RoundRequest, until: float) -> HelperAnswer:
        self.asked.append(asked)
        self.before(asked)
        return self.twist(self._carried(lambda: self.service.open(RoundRequest.decode(asked.encode()))))

    def _carried(self, call: Callable[[], HelperAnswer]) -> HelperAnswer:
        try:
            return HelperAnswer.decode(call().encode())
        except HeadUnknown as error:
            raise HelperRefused(str(error), error.seen) from None
        except HelperAway:
            raise
        except FedrecError as error:
            raise HelperRefused(f"the helper refused: {error}") from None
