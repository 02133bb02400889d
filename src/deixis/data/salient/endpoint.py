"""Asks an OpenAI-compatible endpoint about a picture, with limits on sizes and times."""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import urlsplit

from PIL import Image

from deixis.errors import DeixisError, RecipeError
from deixis.structures import ImageArray

KEY_VARIABLE = "DEIXIS_CAPTIONER_KEY"
"""The environment variable with the key, if the endpoint needs one."""

MAX_ANSWER_BYTES = 2**20
MAX_TEXT = 2000
"""Longest description in characters; the rest is cut off."""
LONGEST_SIDE = 768
"""Longest side of a sent picture in pixels; larger pictures are scaled down."""
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirects, as the key is meant for one address."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that answers ``POST …/chat/completions``.

    The key is read from the environment for each question and never stored. It is sent only over
    HTTPS or to this machine.

    Args:
        url: The address before ``/chat/completions``, such as ``http://localhost:8000/v1``.
        model: The name of the model at the endpoint.
        timeout: Seconds that one answer may take.
        attempts: Number of attempts for each question.
        pause: Seconds before the second attempt; each pause is twice the one before.

    Raises:
        RecipeError: The address is invalid.
    """

    url: str
    model: str
    timeout: float = 60.0
    attempts: int = 3
    pause: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise RecipeError(f"endpoint {self.url!r}: expected http://… or https://…")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise RecipeError(
                "endpoint: expected an address without a user, query or fragment\n"
                f"hint: put the key into {KEY_VARIABLE}"
            )

    def ask(self, image: ImageArray, prompt: str) -> str:
        """Return the answer to a prompt about a picture; empty if the answer holds no words.

        Raises:
            DeixisError: The endpoint does not answer, or its answer cannot be read.
        """
        body = json.dumps(self._question(image, prompt)).encode()
        for attempt in range(self.attempts):
            last = attempt + 1 == self.attempts
            try:
                return _text(self._post(body))
            except urllib.error.HTTPError as error:
                with error:
                    if last or error.code not in _AGAIN:
                        self._fail(f"answered {error.code}", error)
            except (OSError, HTTPException) as error:
                if last:
                    self._fail(f"does not answer: {error}", error)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                self._fail(f"the answer cannot be read: {error}", error)
            time.sleep(self.pause * 2**attempt)
        raise DeixisError(f"endpoint {self.url}: expected at least one attempt")

    def _fail(self, what: str, error: Exception) -> NoReturn:
        raise DeixisError(f"endpoint {self.url}: {what}") from error

    def _question(self, image: ImageArray, prompt: str) -> dict[str, Any]:
        picture = Image.fromarray(image)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        content = [
            {"type": "text", "text": prompt},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        ]
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 100,
            "temperature": 0,
        }

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(  # noqa: S310  # the scheme is checked when it is made
            f"{self.url.rstrip('/')}/chat/completions",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        key = os.environ.get(KEY_VARIABLE)
        if key:
            if not self._is_safe:
                raise RecipeError(
                    f"endpoint {self.url}: a key is sent over https only, or to this machine"
                )
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=self.timeout) as answer:
            data: bytes = answer.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise ValueError(f"more than {MAX_ANSWER_BYTES} bytes")
        return data

    @property
    def _is_safe(self) -> bool:
        parts = urlsplit(self.url)
        if parts.scheme == "https" or parts.hostname == "localhost":
            return True
        try:
            return ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return False


def _text(data: bytes) -> str:
    text = json.loads(data)["choices"][0]["message"]["content"]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError("the content of the message is not a text")
    return text[:MAX_TEXT]
