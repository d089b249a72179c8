"""The applications of the bookstore: a buyer, a thief, the store, the warehouse and its database.

Environment: IDENTITY, BOOKSTORE, BOOKWAREHOUSE, DATABASE (host:port), LOOP_S (pause between two rounds of a buyer),
CLIENTS (how many buy at once), COHORT (a header of that name goes along), BUY_DELAY_MS (low-high). Places are told in
the words of the original manifests too: BOOKSTORE_NAMESPACE and BOOKSTORE_SVC, BOOKWAREHOUSE_NAMESPACE and
WAREHOUSE_SVC.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import html
import json
import os
import random
from collections.abc import Awaitable

from app_http import POD, HttpClient, HttpRole, Request, Response

_ORIGINAL = {  # namespace, service and its usual name, port
    "BOOKSTORE": ("BOOKSTORE_NAMESPACE", "BOOKSTORE_SVC", "bookstore", 14001),
    "BOOKWAREHOUSE": ("BOOKWAREHOUSE_NAMESPACE", "WAREHOUSE_SVC", "bookwarehouse", 14001),
}


def _place(variable: str) -> tuple[str, int] | None:
    """Where another application is; None: this one has none."""
    if variable in os.environ:
        host, _, port = os.environ[variable].partition(":")
        return host, int(port)
    namespace, service, usual, number = _ORIGINAL.get(variable, ("", "", "", 0))
    if namespace not in os.environ:
        return None
    return f"{os.environ.get(service, usual)}.{os.environ[namespace]}", number


_HTML = {"content-type": "text/html; charset=utf-8"}

# What a page looks like: it asks its own /raw each second, and counts on.
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>%(title)s</title>
<style>
  body { margin: 0; font: 18px/1.4 system-ui, sans-serif; background: #f6f7f9; color: #1c2430 }
  main { max-width: 34rem; margin: 8vh auto; padding: 0 1.2rem }
  h1 { font-size: 1.5rem; margin: 0 0 .2rem } p { color: #5b6675; margin: 0 0 1.6rem }
  dl { display: grid; grid-template-columns: 1fr auto auto; row-gap: .2rem; background: #fff; border-radius: .6rem;
       padding: 1rem 1.3rem; box-shadow: 0 1px 4px #0002 }
  dt { grid-column: 1 } dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums }
  dd.n { grid-column: 2; font-weight: 600; font-size: 1.35rem } dd.r { grid-column: 3; width: 6.5rem; color: #5b6675;
       align-self: center } dd.up { color: #0a7d3c } dd.bad { color: #b3261e }
  small { color: #5b6675 } small.off { color: #b3261e }
</style>
<main><h1>%(title)s</h1><p>%(about)s</p><dl id="rows"></dl><p><small id="state">asking ...</small></p></main>
<script>
  const names = %(names)s, rows = document.getElementById("rows"), state = document.getElementById("state"), cells = {};
  for (const [key, words] of Object.entries(names)) {
    const dt = document.createElement("dt"), n = document.createElement("dd"), r = document.createElement("dd");
    dt.textContent = words; n.className = "n"; n.id = key; n.textContent = "-"; r.className = "r";
    rows.append(dt, n, r); cells[key] = [n, r];
  }
  let last = null, at = 0;
  async function ask() {
    try {
      const now = await (await fetch("raw", { cache: "no-store" })).json(), t = performance.now();
      for (const [key, [n, r]] of Object.entries(cells)) {
        const value = now[key] ?? 0;
        const rate = last ? Math.max(0, value - (last[key] ?? 0)) / (t - at) * 1000 : 0;
        n.textContent = value.toLocaleString("en"); r.textContent = rate >= .05 ? "+" + rate.toFixed(1) + "/s" : "";
        r.className = rate < .05 ? "r" : key === "failed" ? "r bad" : "r up";
      }
      last = now; at = t; state.className = "";
      state.textContent = "live" + (now.last ? ", last answer " + now.last : "");
    } catch (error) { state.className = "off"; state.textContent = "no answer: " + error.message; }
    setTimeout(ask, 1000);
  }
  ask();
</script>
</html>
"""


def _page(title: str, about: str, names: dict[str, str]) -> str:
    """A page of counters: `names` of /raw with the words for them."""
    return _PAGE % {"title": html.escape(title), "about": html.escape(about), "names": json.dumps(names)}


class Bookstore(HttpRole):
    """Sells books, and tells the warehouse how many to restock."""

    def __init__(self) -> None:
        super().__init__()
        self.sold = 0
        self._to_restock = asyncio.Event()
        self._owed = 0
        low, _, high = os.environ.get("BUY_DELAY_MS", "150-750").partition("-")
        self._delay = (int(low), int(high or low))

    def serve(self, request: Request) -> Response | Awaitable[Response]:
        """Answers a request."""
        if request.path == "/buy-a-book/new" and request.method == "GET":
            return self._sell()
        if request.path == "/books-bought":
            if request.method == "POST":
                with contextlib.suppress(ValueError):
                    self.sold = int(request.body)
            return self._answer({"booksSold": self.sold})
        if request.path == "/raw":
            return self._answer({"booksSold": self.sold})
        if request.path == "/reset":
            self.sold = 0
            return self._answer({"booksSold": 0})
        if request.path in ("/liveness", "/readiness", "/startup"):
            return self._answer({})
        if request.path == "/":
            title = os.environ.get("IDENTITY", POD)
            return self._answer(_page(title, "sells books to whoever is let in", {"booksSold": "books sold"}))
        return Response(404)

    def _answer(self, body: dict | str) -> Response:
        kind = _HTML if isinstance(body, str) else {}
        return Response(200, body, {**kind, "identity": os.environ.get("IDENTITY", POD), "booksbought": str(self.sold)})

    async def _sell(self) -> Response:
        if self._delay[1]:
            await asyncio.sleep(random.uniform(*self._delay) / 1000)
        self.sold += 1
        self._owed += 1
        self._to_restock.set()
        return self._answer({"booksSold": self.sold})

    async def run(self) -> None:
        """Restocks, as often as the warehouse answers."""
        warehouse = _place("BOOKWAREHOUSE")
        if warehouse is None:
            return
        client = HttpClient(*warehouse)
        while True:
            await self._to_restock.wait()
            self._to_restock.clear()
            owed, self._owed = self._owed, 0
            try:
                good = (await client.request("POST", "/restock-books", body=str(owed).encode())).status == 200
            except (TimeoutError, OSError):
                good = False
            if not good:
                self._owed += owed
                await asyncio.sleep(0.2)


class Bookwarehouse(HttpRole):
    """Counts what is restocked, and has the database store it, where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.restocked = self.stored = 0
        self._changed = asyncio.Event()

    def serve(self, request: Request) -> Response:
        """Answers a request."""
        if request.path in ("/", "/restock-books") and request.method == "POST":
            try:
                self.restocked += int(request.body)
                self._changed.set()
            except ValueError:
                return Response(400, "the body is not a number")
            return Response(body={"restocked": self.restocked})
        if request.path == "/raw":
            return Response(body={"restocked": self.restocked, "stored": self.stored})
        if request.path == "/":
            names = {"restocked": "books restocked", "stored": "stored in the database"}
            return Response(200, _page("bookwarehouse", "restocks what the stores have sold", names), _HTML)
        return Response(404)

    async def run(self) -> None:
        """Stores what was restocked, as often as the database answers."""
        place = _place("DATABASE")
        if place is None:
            return
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._store(*place)
            except (TimeoutError, OSError, ValueError):
                self._changed.set()
                await asyncio.sleep(0.2)

    async def _store(self, host: str, port: int) -> None:
        """One connection, for as long as the database keeps it."""
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
        try:
            while self.stored != self.restocked:
                writer.write(f"SET {self.restocked}\n".encode())
                self.stored = int(await asyncio.wait_for(reader.readline(), 5))
        finally:
            writer.close()


async def database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keeps one number, and says it: what stands for the warehouse's MySQL, as far as a mesh can tell."""
    with contextlib.suppress(OSError, ValueError):
        while line := await reader.readline():
            kept = int(line.removeprefix(b"SET "))
            writer.write(f"{kept}\n".encode())
            await writer.drain()
    writer.close()


class Buyer(HttpRole):
    """Buys (or steals) books in a loop, and counts where they came from."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what  # "Bought" or "Stolen"
        self.total = 0
        self.by_version: collections.Counter[str] = collections.Counter()
        self.failed = 0
        self.last = ""
        self.rounds = [0] * int(os.environ.get("CLIENTS", "1"))  # of each client: tries that are over

    def serve(self, request: Request) -> Response:
        """Answers a request."""
        name = "books" + self._what
        if request.path == "/":
            words = self._what.lower()
            names = {name: f"books {words}", name + "V1": "from bookstore-v1", name + "V2": "from bookstore-v2"}
            about = f"{'buys' if self._what == 'Bought' else 'steals'} books as fast as it is let"
            return Response(200, _page(POD or "buyer", about, {**names, "failed": "refused or failed"}), _HTML)
        if request.path == "/raw":
            return Response(
                body={
                    name: self.total,
                    name + "V1": self.by_version["v1"],
                    name + "V2": self.by_version["v2"],
                    "failed": self.failed,
                    "last": self.last,
                    "rounds": self.rounds,
                }
            )
        if request.path == "/reset":
            self.total = self.failed = 0
            self.by_version.clear()
            return Response(body={})
        return Response(404)

    async def run(self) -> None:
        """Buys for ever."""
        await asyncio.gather(*map(self._buy, range(len(self.rounds))))

    async def _buy(self, client_number: int) -> None:
        pause = float(os.environ.get("LOOP_S", "1"))
        place = _place("BOOKSTORE")
        assert place, "BOOKSTORE is not set"
        client = HttpClient(*place)
        headers = {"client-app": "bookbuyer", "user-agent": "Go-http-client/1.1"}
        if "COHORT" in os.environ:
            headers["cohort"] = os.environ["COHORT"]
        while True:
            try:
                looked = await client.request("GET", "/books-bought", headers)
                bought = await client.request("GET", "/buy-a-book/new", headers) if looked.status == 200 else looked
                self.last = str(bought.status)
                if bought.status == 200:
                    self.total += 1
                    identity = bought.headers.get("identity", "")
                    self.by_version["v2" if identity.startswith("bookstore-v2") else "v1"] += 1
                else:
                    self.failed += 1
            except (TimeoutError, OSError) as error:
                self.failed += 1
                self.last = type(error).__name__
            self.rounds[client_number] += 1
            await asyncio.sleep(pause)
