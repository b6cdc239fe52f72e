"""A person with a browser: real pages, real redirects, real cookies, one after the other."""

import html
import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

from demo.stage import Failed


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.location = headers.get("Location")

    def hidden(self):
        """The hidden fields of the page's forms, by name."""
        fields = {}
        for tag in re.findall(r"<input\b[^>]*>", self.body):
            attributes = dict(re.findall(r'([a-z-]+)="([^"]*)"', tag))
            if attributes.get("type") == "hidden":
                fields.setdefault(attributes["name"], html.unescape(attributes.get("value", "")))
        return fields

    def text(self, pattern):
        """What the page says in the first element that matches, without its markup."""
        found = re.search(pattern, self.body, re.S)
        plain = re.sub(r"<[^>]+>", " ", found.group(1).replace("</strong>", ":")) if found else ""
        return re.sub(r"\s+", " ", html.unescape(plain)).strip()


class Person:
    """Everything this person's browser does is told to `tell`: method, address, status, where it leads."""

    def __init__(self, name, broker, tell):
        self.name, self.broker, self.tell = name, broker, tell
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
            _Stay(),
        )

    def call(self, address, form=None):
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(address, data=data)
        if data is not None:
            # A browser says where a form comes from; the broker refuses forms from elsewhere.
            parts = urllib.parse.urlsplit(address)
            request.add_header("Origin", f"{parts.scheme}://{parts.netloc}")
        try:
            answer = self.opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            answer = Answer(answer.status, answer.headers, answer.read().decode())
        method = "GET" if form is None else "POST"
        to = f"  to {_short(answer.location)}" if answer.location else ""
        self.tell(f"{method:4} {_short(address):62} {answer.status}{to}")
        return answer

    def sign_in(self, path):
        """OIDC's code flow: to the provider, a name is chosen, back with a code. Ends on the page at `path`."""
        answer = self.call(f"{self.broker}{path}")
        if answer.status != 303:
            raise Failed(f"{path} does not ask to sign in first: {answer.status}")
        page = self.call(urllib.parse.urljoin(self.broker, answer.location))
        answer = self.call(f"{self.broker}/sign-in/dev", {"return_to": page.hidden()["return_to"]})
        provider = answer.location
        page = self.call(provider)
        choice = {**page.hidden(), "person": self.name}
        answer = self.call(urllib.parse.urljoin(provider, "/authorize"), choice)
        while answer.location:
            answer = self.call(urllib.parse.urljoin(self.broker, answer.location))
        return answer

    def decide(self, page, path, digest, decision, comment):
        """Sends the form of a request's page; with the token of the page even where it has no such form."""
        form = {"csrf": page.hidden()["csrf"], "digest": digest, "decision": decision, "comment": comment}
        return self.call(f"{self.broker}{path}/review", form)


def _short(address):
    """An address without the long random values in its query."""
    parts = urllib.parse.urlsplit(address)
    return f"{parts.netloc}{parts.path}" + ("?..." if parts.query else "")
