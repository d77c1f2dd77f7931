"""Downloads against a server on this machine: resumed, checked, unpacked safely, and whole or not at all."""

import errno
import hashlib
import io
import socket
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from fedrec import cli
from fedrec.data import download, sources, unpack
from fedrec.data.datasets import DataConfig, load
from fedrec.data.sources import Remote, Source
from fedrec.errors import InputError


class Publisher:
    """Files by path; `cut`: bytes after which a connection ends; `seen`: each request's path and Range; `most`: bytes
    of one range at most; `ahead`: how far behind the wanted place a range starts; `unasked`: a range
    answers each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.etag = '"one"'
        self.fail: list[int] = []
        self.moved: dict[str, str] = {}
        self.heeds_if_range = True
        self.most: int | None = None
        self.ahead, self.unasked = 0, False
        self.seen: list[tuple[str, str | None]] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.seen.append((request.path, wanted))
        if request.path in self.moved:
            request.send_response(302)
            request.send_header("Location", self.moved[request.path])
            request.end_headers()
            return
        body = self.files.get(request.path)
        if self.fail or body is None:
            request.send_error(self.fail.pop(0) if self.fail else 404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and self.heeds_if_range and request.headers.get("If-Range") != self.etag:
            start = 0
        if start >= len(body):
            request.send_error(416)
            return
        request.send_response(206 if start or self.unasked else 200)
        if self.etag:
            request.send_header("ETag", self.etag)
        start += self.ahead if start else 0
        sent = body[start:][: self.most if start else None]
        request.send_header("Content-Length", str(len(sent)))
        if start or self.unasked:
            request.send_header("Content-Range", f"bytes {start}-{start + len(sent) - 1}/{len(body)}")
        request.end_headers()
        request.wfile.write(sent[: self.cut])
        request.close_connection = True


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    made = Publisher()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(5)


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(name, text)
    return out.getvalue()


RATINGS = "userId,movieId,rating,timestamp\n" + "".join(f"{n},{n % 7},4,{n}\n" for n in range(500))
MOVIES = "movieId,title,genres\n" + "".join(f"{n},Film {n} (1990),Drama\n" for n in range(7))
ZIP = archive(**{"ml-latest/ratings.csv": RATINGS, "ml-latest/movies.csv": MOVIES})


def source(publisher: Publisher, body: bytes = ZIP, checksum: str | None = "", name: str = "ml-latest") -> Source:
    publisher.files[f"/{name}.zip"] = body
    given = f"md5:{hashlib.md5(body).hexdigest()}" if checksum == "" else checksum
    return Source(name, "Toy", (Remote(f"{publisher.url}/{name}.zip", given),), "Be kind.", "http://x", "Me 2024", 1)


def quiet(name: str, done: int, total: int | None) -> None:
    pass


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_dataset_arrives_whole_and_can_be_read(publisher: Publisher, tmp_path: Path) -> None:
    shown: list[tuple[str, int, int | None]] = []
    wanted = source(publisher)
    found = download.get(wanted, tmp_path, lambda *told: shown.append(told))
    assert found == {"ml-latest.zip": wanted.files[0].checksum}
    assert names(tmp_path) == ["ml-latest"]
    assert names(tmp_path / "ml-latest") == ["SOURCE.txt", "movies.csv", "ratings.csv"]
    assert "Be kind." in (tmp_path / "ml-latest" / "SOURCE.txt").read_text()
    assert shown[-1] == ("ml-latest.zip", len(ZIP), len(ZIP))
    assert len(load(DataConfig(name="ml-latest"), tmp_path, 0).histories) == 500
    with pytest.raises(InputError, match="is there already"):
        download.get(wanted, tmp_path, quiet)


def test_a_cut_connection_is_gone_on_with(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cut = len(ZIP) // 3 + 1
    download.get(source(publisher), tmp_path, quiet)
    step = publisher.cut
    assert [wanted for _, wanted in publisher.seen] == [None, f"bytes={step}-", f"bytes={2 * step}-"]
    assert (tmp_path / "ml-latest" / "ratings.csv").read_text() == RATINGS


def test_a_range_that_is_shorter_than_asked_is_gone_on_with(publisher: Publisher, tmp_path: Path) -> None:
    shown: list[tuple[str, int, int | None]] = []
    publisher.cut, publisher.most = len(ZIP) // 2, len(ZIP) // 12
    found = download.get(source(publisher, checksum=None), tmp_path, lambda *told: shown.append(told))
    assert found["ml-latest.zip"] == f"sha256:{hashlib.sha256(ZIP).hexdigest()}"
    assert len(publisher.seen) > 1 + download.ATTEMPTS, "an answer that is whole is no failed attempt"
    assert {total for _, _, total in shown} == {len(ZIP)}


def test_a_range_from_another_place_starts_anew(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cut, publisher.ahead = len(ZIP) // 2, 1
    with pytest.raises(InputError, match="the connection was cut"):
        download.get(source(publisher, checksum=None), tmp_path, quiet)
    assert [wanted for _, wanted in publisher.seen] == [None, f"bytes={publisher.cut}-"] * 2
    publisher.cut = None
    found = download.get(source(publisher, checksum=None), tmp_path, quiet)
    assert found["ml-latest.zip"] == f"sha256:{hashlib.sha256(ZIP).hexdigest()}"


def test_a_range_that_was_not_asked_for_is_not_taken(publisher: Publisher, tmp_path: Path) -> None:
    publisher.etag, publisher.unasked = "", True
    with pytest.raises(InputError):
        download.get(source(publisher, checksum=None), tmp_path, quiet)


def test_a_later_run_goes_on_and_a_changed_file_starts_anew(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cut = len(ZIP) // 10
    with pytest.raises(InputError, match=r"the connection was cut, 4 times; .* continues where it was") as caught:
        download.get(source(publisher), tmp_path, quiet)
    assert "\n" not in str(caught.value)
    have = (tmp_path / ".ml-latest.download" / "ml-latest.zip.part").stat().st_size
    assert have == 4 * publisher.cut
    assert names(tmp_path) == [".ml-latest.download"]
    other = archive(**{"ratings.csv": RATINGS + "9,1,1,1\n", "movies.csv": MOVIES})
    publisher.cut, publisher.etag, publisher.seen = None, '"two"', []
    download.get(source(publisher, other), tmp_path, quiet)
    assert publisher.seen == [("/ml-latest.zip", f"bytes={have}-")]
    assert (tmp_path / "ml-latest" / "ratings.csv").read_text().endswith("9,1,1,1\n")


def test_a_changed_file_starts_anew_from_a_publisher_that_ignores_if_range(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    publisher.cut, publisher.heeds_if_range = 100, False
    with pytest.raises(InputError):
        download.get(source(publisher, checksum=None), tmp_path, quiet)
    changed = archive(**{"ratings.csv": RATINGS, "movies.csv": MOVIES + "7,New (1991),Drama\n"})
    publisher.cut, publisher.etag = None, '"two"'
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    found = download.get(source(publisher, changed, checksum=None), tmp_path, quiet)
    assert found["ml-latest.zip"] == f"sha256:{hashlib.sha256(changed).hexdigest()}"


def test_a_run_that_dies_before_the_first_byte_leaves_no_mixture(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.cut = 100
    with pytest.raises(InputError):
        download.get(source(publisher, checksum=None), tmp_path, quiet)
    publisher.cut, publisher.etag = None, '"two"'
    changed = archive(**{"ratings.csv": RATINGS, "movies.csv": MOVIES + "7,New (1991),Drama\n"})
    real = Path.open

    def dies(file: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if file.suffix == ".part" and mode == "wb":
            raise KeyboardInterrupt
        return real(file, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", dies)
    with pytest.raises(KeyboardInterrupt):
        download.get(source(publisher, changed, checksum=None), tmp_path, quiet)
    monkeypatch.setattr(Path, "open", real)
    found = download.get(source(publisher, changed, checksum=None), tmp_path, quiet)
    assert found["ml-latest.zip"] == f"sha256:{hashlib.sha256(changed).hexdigest()}"


def test_no_redirect_leaves_an_encrypted_connection_or_the_web(publisher: Publisher, tmp_path: Path) -> None:
    wanted = source(publisher)
    publisher.files["/moved.zip"] = ZIP
    publisher.moved["/ml-latest.zip"] = f"{publisher.url}/moved.zip"
    assert download.get(wanted, tmp_path / "fine", quiet)
    publisher.moved["/ml-latest.zip"] = "ftp://127.0.0.1/x.zip"
    with pytest.raises(InputError, match=r"sends on to ftp://127\.0\.0\.1/x\.zip, which is not safe"):
        download.get(wanted, tmp_path / "ftp", quiet)
    old = Request("https://publisher.example/x.zip")
    for url in ("http://publisher.example/x.zip", "ftp://publisher.example/x.zip"):
        with pytest.raises(InputError, match="which is not safe"):
            download._Redirects().redirect_request(old, None, 302, "Found", {}, url)
    assert download._Redirects().redirect_request(old, None, 302, "Found", {}, "https://mirror.example/x.zip")


def test_what_cannot_be_a_beginning_starts_anew(publisher: Publisher, tmp_path: Path) -> None:
    staging = tmp_path / ".ml-latest.download"
    staging.mkdir()
    (staging / "ml-latest.zip.part").write_bytes(b"x" * (len(ZIP) + 5))
    (staging / "ml-latest.zip.tag").write_text(publisher.etag)
    download.get(source(publisher), tmp_path, quiet)
    assert [wanted for _, wanted in publisher.seen] == [f"bytes={len(ZIP) + 5}-", None]


def test_without_a_tag_nothing_is_gone_on_with(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cut, publisher.etag = len(ZIP) // 2, ""
    with pytest.raises(InputError, match="the connection was cut"):
        download.get(source(publisher), tmp_path, quiet)
    publisher.cut = None
    download.get(source(publisher), tmp_path, quiet)
    assert {wanted for _, wanted in publisher.seen} == {None}


def test_a_wrong_checksum_deletes_and_says_so(publisher: Publisher, tmp_path: Path) -> None:
    wrong = f"md5:{'0' * 32}"
    with pytest.raises(InputError, match=f"the publisher's is {wrong}; it was deleted"):
        download.get(source(publisher, checksum=wrong), tmp_path, quiet)
    assert list((tmp_path / ".ml-latest.download").iterdir()) == []
    assert not (tmp_path / "ml-latest").exists()


def test_what_has_no_published_checksum_is_pinned(publisher: Publisher, tmp_path: Path) -> None:
    found = download.get(source(publisher, checksum=None), tmp_path, quiet)
    digest = hashlib.sha256(ZIP).hexdigest()
    assert found == {"ml-latest.zip": f"sha256:{digest}"}
    pin = tmp_path / "ml-latest.sha256"
    assert pin.read_text() == f"{digest}  ml-latest.zip\n"
    (tmp_path / "ml-latest").rename(tmp_path / "old")
    other = archive(**{"ratings.csv": RATINGS, "movies.csv": MOVIES + "8,New (2000),Drama\n"})
    with pytest.raises(InputError, match=r"pinned in .*ml-latest\.sha256 is .* delete the pin"):
        download.get(source(publisher, other, checksum=None), tmp_path, quiet)
    download.get(source(publisher, checksum=None), tmp_path, quiet)
    pin.unlink()
    (tmp_path / "ml-latest").rename(tmp_path / "older")
    download.get(source(publisher, other, checksum=None), tmp_path, quiet)


def test_the_publisher_says_no(publisher: Publisher, tmp_path: Path) -> None:
    wanted = source(publisher)
    body = publisher.files.pop("/ml-latest.zip")
    with pytest.raises(InputError, match=r"answers 404 \(Not Found\)"):
        download.get(wanted, tmp_path, quiet)
    assert len(publisher.seen) == 1
    publisher.files["/ml-latest.zip"] = body
    publisher.fail = [503, 503]
    download.get(wanted, tmp_path, quiet)
    assert not publisher.fail


def test_no_network_and_no_web_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.zip"
        with pytest.raises(InputError, match="refused, 4 times; check the network") as caught:
            download.get(Source("x", "", (Remote(url),), "", "", ""), tmp_path, quiet)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="only http and https"):
        download.get(Source("x", "", (Remote(f"file://{tmp_path}/x.zip"),), "", "", ""), tmp_path, quiet)


def test_a_full_disk_is_told_and_what_is_there_stays(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.cut = 100
    with pytest.raises(InputError):
        download.get(source(publisher), tmp_path, quiet)
    publisher.cut = None

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="the disk is full; make room"):
        download.get(source(publisher), tmp_path, full)
    assert (tmp_path / ".ml-latest.download" / "ml-latest.zip.part").stat().st_size == 400
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="the disk is full"):
        download.get(source(publisher), tmp_path, quiet)


@pytest.mark.parametrize("evil", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil.txt"])
def test_an_archive_that_points_outside_is_refused(publisher: Publisher, tmp_path: Path, evil: str) -> None:
    inside = tmp_path / "inside"
    bad = archive(**{"ratings.csv": RATINGS, evil: "evil"})
    with pytest.raises(InputError, match="points outside of the archive"):
        download.get(source(publisher, bad), inside, quiet)
    assert not list(tmp_path.rglob("evil*"))
    assert names(inside) == [".ml-latest.download"]
    assert names(inside / ".ml-latest.download") == []


def test_links_bombs_and_damaged_archives_are_refused(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        made.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="points outside"):
        download.get(source(publisher, out.getvalue()), tmp_path, quiet)
    monkeypatch.setattr(unpack, "AT_LEAST", 1000)
    with pytest.raises(InputError, match="far more than it should"):
        download.get(source(publisher, archive(bomb="0" * 1_000_000)), tmp_path, quiet)
    damaged = bytearray(ZIP)
    damaged[60:80] = bytes(20)
    for body in (bytes(damaged), ZIP[:-30], b"no archive"):
        with pytest.raises(InputError, match="a damaged archive"):
            download.get(source(publisher, body), tmp_path, quiet)
    assert names(tmp_path) == [".ml-latest.download"]


class Person(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_command_asks_for_the_licence(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sources.SOURCES, "ml-latest", source(publisher, checksum=None))
    command = ["data", "get", "ml-latest", "--data-dir", str(tmp_path)]
    for stdin in (io.StringIO("y\n"), Person("n\n")):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli.run(command) == 2
        told = capsys.readouterr()
        assert "Be kind." in told.out
        assert "was not accepted, nothing was downloaded" in told.err
        assert not publisher.seen
    monkeypatch.setattr(sys, "stdin", Person("y\n"))
    assert cli.run(command) == 0
    assert f"sha256:{hashlib.sha256(ZIP).hexdigest()} (none is published; pinned" in capsys.readouterr().out
    assert cli.run([*command, "--accept-licence"]) == 2
    assert "is there already" in capsys.readouterr().err
    (tmp_path / "ml-latest").rename(tmp_path / "old")
    assert cli.run([*command, "--accept-licence"]) == 0
    assert cli.run(["data", "list", "--data-dir", str(tmp_path)]) == 0
    assert "ml-latest" in capsys.readouterr().out


def test_a_name_that_no_publisher_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("FEDREC_DATA", raising=False)
    assert cli.run(["data", "get", "ml-1n", "--data-dir", str(tmp_path)]) == 2
    assert "Did you mean 'ml-1m'" in capsys.readouterr().err
    assert cli.run(["data", "get", "ml-1m"]) == 2
    assert "give --data-dir or set FEDREC_DATA" in capsys.readouterr().err


def test_the_table_of_sources_is_whole() -> None:
    for name, found in sources.SOURCES.items():
        assert found.name == name
        assert found.licence
        assert found.citation
        assert found.licence_url.startswith("https://")
        for remote in found.files:
            assert remote.url.startswith("https://")
            assert remote.checksum is None or len(remote.checksum) == len("md5:") + 32
    assert len({remote.url for found in sources.SOURCES.values() for remote in found.files}) == 10 + 2 * 33
