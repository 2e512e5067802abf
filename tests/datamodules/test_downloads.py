"""Downloads from a server on this machine that cuts connections and lies."""

import gzip
import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datamodules import downloads
from datamodules.downloads import check_sha256, fetch, gunzip, read_tar_gz
from zoo.core.errors import DataError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 1 << 20


class Server(ThreadingHTTPServer):
    """Serves `files`, as `etag`, `ranges`, `cut_at` and `codes` tell; `asked` holds (path, Range) of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.etag, self.ranges = '"one"', True
        self.cut_at: list[int] = []  # bytes sent before the connection is cut, per request
        self.codes: list[int] = []  # answered in place of the file, per request
        self.announced: int | None = None
        self.asked: list[tuple[str, str | None]] = []

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server, start = self.server, 0
        server.asked.append((self.path, self.headers.get("Range")))
        content = server.files.get(self.path)
        if content is None or server.codes:
            self.send_error(server.codes.pop(0) if server.codes else 404)
            return
        same = server.etag and self.headers.get("If-Range") == server.etag
        if server.ranges and same and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(asked[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(server.announced or len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: server.cut_at.pop(0) if server.cut_at else None])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    monkeypatch.setattr(downloads, "TIMEOUT", 5.0)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def right(path):
    check_sha256(path.name, path.read_bytes(), SHA256)
    return path.read_bytes()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_and_nothing_else_is_left(server, tmp_path):
    assert fetch([server.url()], tmp_path / "new" / "file", right, LIMIT) == CONTENT
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["file"]


def test_a_cut_download_goes_on_where_it_ended_however_often(server, tmp_path):
    server.cut_at = [100_000] * 5
    fetch([server.url()], tmp_path / "file", right, LIMIT)
    assert [asked for _, asked in server.asked] == [None, *(f"bytes={n}00000-" for n in range(1, 6))]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_later_process_goes_on_too(server, tmp_path):
    server.cut_at = [100_000, 0, 0]
    with pytest.raises(DataError, match=r"/file: the connection was cut after 100,000 of 512,000 bytes\.$"):
        fetch([server.url()], tmp_path / "file", right, LIMIT)
    assert names(tmp_path) == ["file.part", "file.part.tag"]
    fetch([server.url()], tmp_path / "file", right, LIMIT)
    assert server.asked[-1] == ("/file", "bytes=100000-")
    assert names(tmp_path) == ["file"]


def test_a_file_that_changed_on_the_server_starts_anew(server, tmp_path):
    server.cut_at = [100_000, 0, 0]
    server.files["/file"] = b"old" * 100_000
    with pytest.raises(DataError):
        fetch([server.url()], tmp_path / "file", right, LIMIT)
    server.files["/file"], server.etag = CONTENT, '"two"'
    assert fetch([server.url()], tmp_path / "file", right, LIMIT) == CONTENT


def test_a_server_that_ignores_ranges_sends_the_whole(server, tmp_path):
    server.ranges, server.cut_at = False, [100_000, 300_000]
    assert fetch([server.url()], tmp_path / "file", right, LIMIT) == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("etag", ['W/"one"', ""])
def test_a_server_that_cannot_name_a_version_is_asked_for_the_whole(server, tmp_path, etag):
    server.etag, server.cut_at = etag, [100_000, 300_000]
    assert fetch([server.url()], tmp_path / "file", right, LIMIT) == CONTENT
    assert [asked for _, asked in server.asked] == [None] * 3


def test_a_part_from_one_mirror_is_not_continued_from_another(server, tmp_path):
    server.files["/other"] = b"other" * 100_000
    server.cut_at = [100_000, 0, 0]
    with pytest.raises(DataError):
        fetch([server.url("/other")], tmp_path / "file", right, LIMIT)
    assert fetch([server.url()], tmp_path / "file", right, LIMIT) == CONTENT
    assert server.asked[-1] == ("/file", None)


def test_a_part_that_is_whole_already_is_asked_for_anew(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    (tmp_path / "file.part.tag").write_text(f'{server.url()}\n"one"')
    assert fetch([server.url()], tmp_path / "file", right, LIMIT) == CONTENT


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server, tmp_path):
    server.ranges, server.cut_at = False, [100_000] * 99
    with pytest.raises(DataError, match="cut after 100,000 of 512,000"):
        fetch([server.url()], tmp_path / "file", right, LIMIT)
    assert len(server.asked) == downloads.TRIES


def test_wrong_content_is_deleted_and_both_hashes_told(server, tmp_path):
    server.files["/file"] = b"lies"
    told = f"has the SHA-256 {hashlib.sha256(b'lies').hexdigest()}, expected {SHA256}"
    with pytest.raises(DataError, match=told):
        fetch([server.url()], tmp_path / "file", right, LIMIT)
    assert names(tmp_path) == []


def test_an_earlier_file_stays_while_nothing_better_is_there(server, tmp_path):
    (tmp_path / "file").write_bytes(b"before")
    server.files["/file"] = b"lies"
    with pytest.raises(DataError):
        fetch([server.url()], tmp_path / "file", right, LIMIT)
    assert (tmp_path / "file").read_bytes() == b"before"


def test_the_next_mirror_is_asked_after_a_missing_and_a_wrong_file(server, tmp_path):
    server.files["/wrong"] = b"lies"
    urls = [server.url("/none"), server.url("/wrong"), server.url()]
    assert fetch(urls, tmp_path / "file", right, LIMIT) == CONTENT
    assert [path for path, _ in server.asked] == ["/none", "/wrong", "/file"]


def test_each_mirrors_reason_is_told(server, tmp_path):
    with pytest.raises(DataError, match=r"/none: HTTP 404 Not Found; http://127.0.0.1:9/x: .*refused\.$"):
        fetch([server.url("/none"), "http://127.0.0.1:9/x"], tmp_path / "file", right, LIMIT)


def test_a_server_that_is_busy_is_asked_again(server, tmp_path):
    server.codes = [503, 429]
    assert fetch([server.url()], tmp_path / "file", right, LIMIT) == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("announced", [None, 10**15])
def test_a_file_that_is_too_large_is_refused(server, tmp_path, announced):
    server.announced = announced
    with pytest.raises(DataError, match="larger than 1,000 bytes"):
        fetch([server.url()], tmp_path / "file", right, 1000)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match="taken/file cannot be written"):
        fetch([server.url()], tmp_path / "taken" / "file", right, LIMIT)


def test_without_a_terminal_progress_is_a_line(server, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(downloads, "REPORT_EVERY", 0.0)
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        fetch([server.url()], tmp_path / "file", right, LIMIT)
    assert "file: 0.5 of 0.5 MB" in caplog.messages


# -- archives ----------------------------------------------------------------------------------------------------------

WANTED = re.compile(r"[^/]+/recordings/([^/]+\.wav)")


def archive(path, members, fmt=tarfile.PAX_FORMAT):
    """A .tar.gz of (name or TarInfo, content)."""
    with tarfile.open(path, "w:gz", format=fmt) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def of_type(kind: bytes, name: str, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_only_regular_files_at_the_wanted_place_are_read(tmp_path):
    members = [
        ("set-1/recordings/a.wav", b"a"),
        ("set-1/README.md", b"no"),
        ("set-1/old/recordings/a.wav", b"no"),
        ("set-1/recordings/a.wav.txt", b"no"),
        ("../recordings/../../b.wav", b"no"),
        ("/recordings/c.wav", b"no"),
        ("set-1/recordings/../../../d.wav", b"no"),
        (of_type(tarfile.SYMTYPE, "set-1/recordings/e.wav", "/etc/passwd"), b""),
        (of_type(tarfile.LNKTYPE, "set-1/recordings/f.wav", "/etc/passwd"), b""),
        (of_type(tarfile.FIFOTYPE, "set-1/recordings/g.wav"), b""),
        (of_type(tarfile.DIRTYPE, "set-1/recordings/h.wav"), b""),
    ]
    path = archive(tmp_path / "x.tar.gz", members)
    assert read_tar_gz(path, WANTED, LIMIT) == {"a.wav": b"a"}
    assert names(tmp_path) == ["x.tar.gz"]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    path = archive(tmp_path / "x.tar.gz", [("set-1/recordings/a.wav", bytes(50_000_000))])
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="unpacks to more"):
        read_tar_gz(path, WANTED, LIMIT)


def test_a_file_that_claims_holes_of_any_size_is_passed_over(tmp_path):
    sparse = tarfile.TarInfo("set-1/recordings/a.wav")
    sparse.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**12), "GNU.sparse.numblocks": "1"}
    path = archive(tmp_path / "x.tar.gz", [(sparse, b"a"), ("set-1/recordings/b.wav", b"b")])
    assert read_tar_gz(path, WANTED, LIMIT) == {"b.wav": b"b"}


@pytest.mark.parametrize("keep", [0, 10, 150, 5000])
def test_a_cut_archive_is_broken(tmp_path, keep):
    content = hashlib.shake_256(b"noise").digest(20_000)
    path = archive(tmp_path / "x.tar.gz", [("set-1/recordings/a.wav", content)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"x.tar.gz is no whole .tar.gz file"):
        read_tar_gz(path, WANTED, LIMIT)


def test_a_gzipped_file_may_not_unpack_to_too_much(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(bytes(1001)))
    assert gunzip(path, 1001) == bytes(1001)
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        gunzip(path, 1000)
