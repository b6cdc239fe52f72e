"""A TCP relay in front of PostgreSQL that can keep back one answer: the one to the statement that mints a role.

That is how the story stops the broker exactly between "the target has made the credential" and "the broker knows".
Nothing is altered: bytes pass, or they wait.
"""

import socket
import threading

MARK = b".lease_mint("


class Relay:
    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.armed = threading.Event()
        self.kept_back = threading.Event()
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def keep_back_the_next_mint(self):
        self.kept_back.clear()
        self.armed.set()

    def let_pass_again(self):
        """The connection whose answer was kept back is cut: whoever waited for it is dead."""
        self.armed.clear()
        for connection in self.connections:
            if connection.held.is_set():
                connection.cut()

    def close(self):
        self.listener.close()
        for connection in self.connections:
            connection.cut()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            self.connections = [c for c in self.connections if c.open]
            self.connections.append(Connection(self, client, server))


class Connection:
    def __init__(self, relay, client, server):
        self.relay, self.client, self.server = relay, client, server
        self.held, self.open = threading.Event(), True
        for way in (self._to_server, self._to_client):
            threading.Thread(target=self._run, args=(way,), daemon=True).start()

    def _run(self, way):
        try:
            way()
        except OSError:
            pass
        self.cut()

    def _to_server(self):
        seen = b""
        while data := self.client.recv(65536):
            seen = (seen + data)[-65536:]
            # The server answers a message only when it has all of it, so this is early enough.
            if self.relay.armed.is_set() and MARK in seen:
                self.held.set()
            if not self.relay.armed.is_set():
                seen = b""
            self.server.sendall(data)

    def _to_client(self):
        while data := self.server.recv(65536):
            if self.held.is_set():
                self.relay.kept_back.set()
                continue
            self.client.sendall(data)

    def cut(self):
        self.open = False
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
