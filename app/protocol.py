"""What is no HTTP gets a problem document as well: the server's own answer, before any request has come about."""

import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.headers import DEFAULTS
from app.problems import REQUEST_UNREADABLE, document

DETAIL = "What was sent is no HTTP request, or has a method that is not known."


class ProblemProtocol(HttpToolsProtocol):
    """HTTP by `httptools`; a request that its parser gives up is answered in the service's own form."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - says less than the detail
        """Answer, and close the connection: nothing after this can be understood."""
        body = json.dumps(document(REQUEST_UNREADABLE, DETAIL, "")).encode()
        headers = {**DEFAULTS, "Content-Type": "application/problem+json", "Content-Length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 400 Bad Request\r\n{lines}Connection: close\r\n\r\n".encode() + body)
        self.transport.close()
