"""A Hub on this machine: serves and takes model repositories over HTTP as huggingface_hub expects it."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class StandInHub:
    """Repositories owner/name as folders below `root`; every revision is the present state.

    Used as `with StandInHub(folder) as hub`, reached by `HF_ENDPOINT=hub.url`.
    """

    def __init__(self, root: Path):
        handler = type("Handler", (_Handler,), {"root": root})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "StandInHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *arguments):
        """Stay silent."""

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._describe(match[1])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            self._list(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._send_file(match[1], match[2])
        else:
            self._refuse("RepoNotFound")

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            Path(self.root, name).mkdir(parents=True, exist_ok=True)
            self._send_json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._send_json({"files": [file | {"shouldIgnore": False, "oid": None} for file in files]})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", path):
            self._take_commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._refuse("RepoNotFound")

    def _files(self, repository):
        folder = self.root / repository
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def _commit_hash(self, repository):
        contents = (
            f"{name} ".encode() + Path(self.root, repository, name).read_bytes() for name in self._files(repository)
        )
        return hashlib.sha1(b"".join(contents)).hexdigest()

    def _describe(self, repository):
        if not Path(self.root, repository).is_dir():
            return self._refuse("RepoNotFound")
        siblings = [{"rfilename": name} for name in self._files(repository)]
        return self._send_json({"id": repository, "sha": self._commit_hash(repository), "siblings": siblings})

    def _list(self, repository):
        paths = {name: Path(self.root, repository, name) for name in self._files(repository)}
        self._send_json([
            {
                "type": "file",
                "path": name,
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for name, path in paths.items()
        ])

    def _send_file(self, repository, name):
        path = Path(self.root, repository, name)
        if not path.is_file():
            return self._refuse("EntryNotFound" if Path(self.root, repository).is_dir() else "RepoNotFound")
        content = path.read_bytes()
        etag = hashlib.sha1(content).hexdigest()
        return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": self._commit_hash(repository)})

    def _take_commit(self, repository, operations):
        for operation in operations:
            if operation["key"] == "file":
                path = Path(self.root, repository, operation["value"]["path"])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(operation["value"]["content"]))
        commit = self._commit_hash(repository)
        url = f"http://{self.headers['Host']}/{repository}/commit/{commit}"
        self._send_json({"commitUrl": url, "commitOid": commit, "hookOutput": ""})

    def _refuse(self, code):
        self._send(404, json.dumps({"error": code}).encode(), {"X-Error-Code": code})

    def _send_json(self, content):
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
