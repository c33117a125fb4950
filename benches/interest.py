"""What interest costs NATS, and tickets Redis: `make interest`, into benches/interest.txt.

One connection subscribes to a subject for each user, as a gateway does. Measured at a
server by itself, at the servers of a cluster, and at two clusters with a gateway between
them: resident memory and CPU of each server, and how long it takes until a publish on the
farthest server reaches the last of them.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

USERS = int(os.environ.get("INTEREST_USERS", "200000"))
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERVER = os.path.join(ROOT, ".servers/bin/nats-server")
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, folder, name, config=""):
        self.name, self.client, self.monitor = name, port(), port()
        path = os.path.join(folder, name + ".conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'server_name: "{name}"\nlisten: "127.0.0.1:{self.client}"\n')
            file.write(f'http: "127.0.0.1:{self.monitor}"\n{config}')
        self.process = subprocess.Popen([SERVER, "-c", path], stderr=subprocess.DEVNULL)

    def ask(self, what):
        url = f"http://127.0.0.1:{self.monitor}/{what}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK


class Connection:
    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.client))
        self.socket.settimeout(120)
        self.lines = self.socket.makefile("rb")
        assert self.lines.readline().startswith(b"INFO")
        self.socket.sendall(b'CONNECT {"verbose":false}\r\n')
        self.barrier()

    def barrier(self):
        self.socket.sendall(b"PING\r\n")
        while self.lines.readline() != b"PONG\r\n":
            pass

    def subscribe(self, count):
        for begin in range(0, count, 1000):
            numbers = range(begin, min(begin + 1000, count))
            lines = [f"SUB usher.user.{1_000_000 + n} {n + 1}\r\n" for n in numbers]
            self.socket.sendall("".join(lines).encode())
        self.barrier()


def until(what, check, limit=120):
    deadline = time.monotonic() + limit
    while True:
        try:
            if check():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"not within {limit} s: {what}")
        time.sleep(0.05)


def settle(servers):
    """Until memory stands still."""
    last = None
    for _ in range(40):
        now = [server.resident() for server in servers]
        if last and all(abs(a - b) < 100_000 for a, b in zip(now, last)):
            return
        last = now
        time.sleep(0.5)


def measure(title, servers, at, far):
    """Subscribes at one server; what that costs each of them."""
    print(title)
    settle(servers)
    before = [(server.resident(), server.cpu()) for server in servers]
    holder, publisher = Connection(at), Connection(far)
    began = time.monotonic()
    holder.subscribe(USERS)
    confirmed = time.monotonic() - began
    last = f"usher.user.{1_000_000 + USERS - 1}"

    def arrives():
        publisher.socket.sendall(f"PUB {last} 2\r\nhi\r\n".encode())
        publisher.barrier()
        holder.socket.settimeout(0.05)
        try:
            line = holder.lines.readline()
            return line.startswith(b"MSG")
        except TimeoutError:
            holder.lines = holder.socket.makefile("rb")
            return False
        finally:
            holder.socket.settimeout(120)

    until("the last user's message arrives", arrives)
    reached = time.monotonic() - began
    settle(servers)
    print(f"  {USERS} subscriptions at {at.name}: confirmed in {confirmed:.2f} s; a publish at")
    print(f"  {far.name} reached the last after {reached:.2f} s")
    for server, (memory, cpu) in zip(servers, before):
        held = (server.resident() - memory) / USERS
        spent = (server.cpu() - cpu) / USERS * 1e6
        print(f"    {server.name:10} {held:7.0f} bytes and {spent:5.1f} us of CPU a subscription")
    print()
    return holder, publisher


def cluster(folder, prefix, count, gateways=None, mine=None):
    routes = [port() for _ in range(count)]
    servers = []
    for index in range(count):
        others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes)
        config = f'cluster {{ name: {prefix}, listen: "127.0.0.1:{routes[index]}", routes: [{others}] }}\n'
        if gateways:
            listen = gateways[prefix][index]
            known = ", ".join(
                f'{{ name: {name}, urls: [{", ".join(chr(34) + f"nats://127.0.0.1:{p}" + chr(34) for p in ports)}] }}'
                for name, ports in gateways.items()
            )
            config += f'gateway {{ name: {prefix}, listen: "127.0.0.1:{listen}", gateways: [{known}] }}\n'
        servers.append(Server(folder, f"{prefix}-{index}", config))
    return servers


def end(servers):
    for server in servers:
        server.process.terminate()
    for server in servers:
        server.process.wait(20)


def tickets():
    """What a ticket costs Redis: written, and taken."""
    redis = port()
    process = subprocess.Popen(
        [os.path.join(ROOT, ".servers/bin/redis-server"), "--port", str(redis), "--bind", "127.0.0.1"]
        + ["--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )

    def listens():
        socket.create_connection(("127.0.0.1", redis)).close()
        return True

    until("Redis listens", listens)
    connection = socket.create_connection(("127.0.0.1", redis))
    answers = connection.makefile("rb")

    def ask(*commands):
        parts = []
        for command in commands:
            parts.append(f"*{len(command)}\r\n")
            parts += [f"${len(word)}\r\n{word}\r\n" for word in command]
        connection.sendall("".join(parts).encode())
        found = []
        for _ in commands:
            line = answers.readline()
            if line.startswith(b"$"):
                line = answers.read(int(line[1:]) + 2)
            found.append(line.decode())
        return found

    def info(name):
        return float(ask(["INFO"])[0].split(name + ":")[1].split()[0])

    def all_of(command):
        for begin in range(0, USERS, 500):
            ask(*[command(n) for n in range(begin, min(begin + 500, USERS))])

    def spent():
        return info("used_cpu_sys") + info("used_cpu_user")

    name = "ticket:{:043d}".format
    memory, cpu = info("used_memory"), spent()
    all_of(lambda n: ["SET", name(n), f"{1_000_000 + n}", "EX", "600"])
    held, written = info("used_memory") - memory, spent() - cpu
    cpu = spent()
    all_of(lambda n: ["GETDEL", name(n)])
    taken = spent() - cpu
    print("Tickets in Redis")
    print(f"  {USERS} tickets of 43 characters, each of a user id of 7, with an expiry")
    print(f"    {held / USERS:.0f} bytes a ticket; {written / USERS * 1e6:.1f} us of CPU to write one,")
    print(f"    {taken / USERS * 1e6:.1f} us to take one, many in one packet")
    process.terminate()
    process.wait(20)


def main():
    version = subprocess.run([SERVER, "--version"], capture_output=True, text=True, check=True)
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, {version.stdout.strip()}")
    print(f"{USERS} users, one subject each; everything on loopback\n")
    with tempfile.TemporaryDirectory() as folder:
        alone = [Server(folder, "alone")]
        until("the server is there", lambda: alone[0].ask("varz"))
        connections = measure("One server", alone, alone[0], alone[0])
        end(alone)
        del connections

        three = cluster(folder, "site", 3)
        until("the cluster is one", lambda: all(s.ask("routez")["num_routes"] >= 2 for s in three))
        time.sleep(2)
        connections = measure("A cluster of three", three, three[0], three[2])
        end(three)
        del connections

        gateways = {name: [port(), port()] for name in ("east", "west")}
        both = cluster(folder, "east", 2, gateways) + cluster(folder, "west", 2, gateways)
        until(
            "the clusters know each other",
            lambda: all(s.ask("gatewayz")["outbound_gateways"] for s in both),
        )
        time.sleep(3)
        connections = measure("Two clusters of two, a gateway between them", both, both[0], both[3])
        end(both)
        del connections
    tickets()


main()
