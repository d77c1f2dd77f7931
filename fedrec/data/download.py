"""Downloads from a publisher: they resume after an interruption, are checked, and appear whole or not at all.

They use HTTP ranges (RFC 9110, 14) with If-Range, so a file that has changed is downloaded anew. No redirect leaves an
encrypted connection. A file without a published checksum is trusted on first use: `NAME.sha256` next to the data
holds its SHA-256, and a later download must match it.
"""

import errno
import hashlib
import http.client
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fedrec.data.sources import Remote, Source
from fedrec.data.unpack import unpack
from fedrec.errors import DISK, InputError

Progress = Callable[[str, int, int | None], None]
"""Called with (file, bytes so far, bytes in all where known)."""

ATTEMPTS = 4
TIMEOUT = 30.0  # seconds without a byte
PAUSE = 1.0  # seconds before the next attempt
_BLOCK = 1 << 18
_RANGE = re.compile(r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", re.IGNORECASE)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCAL = (*DISK, errno.EISDIR)


def get(source: Source, data_dir: Path, progress: Progress) -> dict[str, str]:
    """Download `source` into `data_dir/NAME`, and return each file's checksum ("sha256:..." or as published).

    An interrupted download stays in `data_dir/.NAME.download`, and the next call resumes it.

    Raises:
        InputError: when the dataset is there already, cannot be downloaded, or has another checksum.
    """
    target, staging = data_dir / source.name, data_dir / f".{source.name}.download"
    if target.exists():
        raise InputError(f"{target}: is there already; delete or rename it to get '{source.name}' again")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        pins = _Pins(data_dir / f"{source.name}.sha256")
        found = {}
        for remote in source.files:
            file = staging / remote.name
            if not file.is_file():
                fetch(remote.url, file, progress)
            found[remote.name] = _verify(file, remote, pins)
        new = Path(tempfile.mkdtemp(prefix=f".{source.name}.new-", dir=data_dir))
        try:
            for remote in source.files:
                unpack(staging / remote.name, new)
            (new / "SOURCE.txt").write_text(_origin(source, found), encoding="utf-8")
            new.chmod(0o755)
            new.rename(target)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        pins.keep()
        shutil.rmtree(staging)
    except OSError as error:
        raise _told(error, data_dir) from None
    return found


def fetch(url: str, file: Path, progress: Progress) -> None:
    """Download `url` to `file`, from the end of `FILE.part` where there is one.

    Raises:
        InputError: when the server does not give the file after several attempts.
        OSError: when the file cannot be written.
    """
    part, tag = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.tag")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if _receive(url, part, tag, progress):
                part.rename(file)
                tag.unlink(missing_ok=True)
                return
            fault = "the connection was cut"
        except HTTPError as error:
            if error.code == 416:  # what is there is as long as the file or longer: it cannot be a beginning of it
                part.unlink(missing_ok=True)
                fault = "the file changed meanwhile"
            elif error.code < 500 or attempt == ATTEMPTS:
                raise InputError(
                    f"{url}: the publisher answers {error.code} ({error.reason}); if it moved, get it by hand"
                ) from None
            else:
                fault = f"the publisher answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in _LOCAL:
                raise
            fault = str(getattr(error, "reason", None) or error or type(error).__name__)
        time.sleep(PAUSE * (attempt < ATTEMPTS))
    raise InputError(f"{url}: {fault}, {ATTEMPTS} times; check the network and run it again: it continues where it was")


def _receive(url: str, part: Path, tag: Path, progress: Progress) -> bool:
    """Make one attempt, in as many ranges as the publisher cuts the file into.

    Returns:
        True if `part` is whole; False if the connection ended early, or the answer was not for this request.
    """
    while (whole := _answer(url, part, tag, progress)) is None:
        pass
    return whole


def _answer(url: str, part: Path, tag: Path, progress: Progress) -> bool | None:
    """Receive one answer.

    Returns:
        As `_receive`; None if the answer is whole and the file has further ranges (RFC 9110, 15.3.7).
    """
    known = tag.read_text() if tag.is_file() and part.is_file() and part.stat().st_size else ""
    have = part.stat().st_size if known else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "fedrec"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url}: not a web address; only http and https are downloaded")
    with build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT) as answer:
        etag = answer.headers.get("ETag") or ""
        version = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified") or ""
        goes_on = answer.status == 206
        ranged = _RANGE.fullmatch(str(answer.headers.get("Content-Range", "")).strip()) if goes_on else None
        if goes_on and not (have and ranged and int(ranged[1]) == have and version in ("", known)):
            part.unlink(missing_ok=True)  # the answer is for another range or file: start anew
            return False
        have = start = have if goes_on else 0
        length = str(answer.headers.get("Content-Length", ""))
        end = have + int(length) if length.isdecimal() else None
        total = int(ranged[2]) if ranged and ranged[2] != "*" else end
        if total is not None and total - have > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, "No space left on device")
        with part.open("ab" if goes_on else "wb") as out:
            # Write the tag after the old bytes are gone: under the new file's tag, a later call would resume from them.
            tag.write_text(known if goes_on else version)
            progress(part.stem, have, total)
            while block := answer.read(_BLOCK):
                out.write(block)
                have += len(block)
                progress(part.stem, have, total)
    if total is not None and start < have < total and end in (None, have):
        return None
    return total is None or have == total


class _Redirects(HTTPRedirectHandler):
    """urllib's, which would also follow from https to http and to ftp."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise InputError(f"{req.full_url}: the publisher sends on to {newurl}, which is not safe; get it by hand")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def checksum(file: Path, algorithm: str) -> str:
    """The file's checksum, as "sha256:..."."""
    with file.open("rb") as opened:
        return f"{algorithm}:{hashlib.file_digest(opened, algorithm).hexdigest()}"


def _verify(file: Path, remote: Remote, pins: "_Pins") -> str:
    expected = remote.checksum or pins.known.get(remote.name)
    found = checksum(file, expected.split(":")[0] if expected else "sha256")
    if expected and found != expected:
        file.unlink()
        whose = "the publisher's" if remote.checksum else f"pinned in {pins.file}"
        mend = "get it again" if remote.checksum else "get it again, or delete the pin if the publisher has changed it"
        raise InputError(f"{remote.url}: its checksum is {found}, {whose} is {expected}; it was deleted: {mend}")
    if not remote.checksum:
        pins.known[remote.name] = found
    return found


class _Pins:
    """The checksums of files without a published one, in the format of `sha256sum`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        pairs = (line.split("  ", 1) for line in lines if "  " in line)
        self.known = {name: f"sha256:{digest}" for digest, name in pairs}

    def keep(self) -> None:
        if self.known:
            lines = (f"{digest.removeprefix('sha256:')}  {name}\n" for name, digest in self.known.items())
            self.file.write_text("".join(lines), encoding="utf-8")


def _origin(source: Source, found: dict[str, str]) -> str:
    files = "".join(f"{remote.url}\n  {found[remote.name]}\n" for remote in source.files)
    return f"{source.about}\n\n{files}\nLicence: {source.licence}\n{source.licence_url}\n\nCite: {source.citation}\n"


def _told(error: OSError, data_dir: Path) -> InputError:
    if error.errno in _FULL:
        return InputError(f"{data_dir}: the disk is full; make room and run it again: it continues where it was")
    return InputError(f"{error.filename or data_dir}: {error.strerror or error}; check --data-dir")
