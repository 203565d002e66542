"""Chat models behind OpenAI-compatible servers: llama.cpp, vLLM, Ollama, LM Studio and most providers."""

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import ItemError, UserError
from .fields import AboveZero, BatchSize, NotNegative, Positive, Temperature, TopP, Transient

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

NO_KEY = "no-key-is-set"  # the client requires a key
MAX_REPLY = 10_000  # characters of a reply or a message that are used
OPTIONAL = ("temperature", "top_p", "seed", "max_tokens")  # parameters that some servers refuse
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line feeds
UNSUPPORTED = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra", re.IGNORECASE
)


@dataclass
class Server:
    """A chat model behind a server.

    A request that fails temporarily (429, 5xx) or times out is sent again, after the time that the server
    gives, or after twice the time of the last attempt. If a server refuses `max_tokens`, requests have
    `max_completion_tokens`; another refused parameter is left out.

    Attributes:
        model: The name by which the server knows the model.
        base_url: The server's address.
        api_key_variable: The environment variable with the key; your own servers need none.
        temperature: The sampling temperature; 0 takes the most likely token.
        top_p: The share of the probability to sample from.
        max_tokens: The longest reply.
        timeout: Seconds for the whole of a response.
        retries: How often a request is sent again.
        batch_size: Requests at the same time.
    """

    model: str
    base_url: str
    api_key_variable: Transient[str] = "OPENAI_API_KEY"
    temperature: Temperature = 0.2
    top_p: TopP = 0.95
    max_tokens: Positive = 256
    timeout: Transient[AboveZero] = 120.0
    retries: Transient[NotNegative] = 5
    batch_size: BatchSize = 8

    version: ClassVar[int] = 2
    group: ClassVar[str]
    """The configuration group of the subclass."""

    def connect(self) -> None:
        """Opens connections; raises a UserError if no server answers or it refuses the key."""
        import openai

        from .bounded_http import BoundedTransport

        self._key = os.environ.get(self.api_key_variable) or NO_KEY
        self._renamed: dict[str, str | None] = {}
        self._client = openai.OpenAI(
            base_url=self.base_url,
            api_key=self._key,
            timeout=self.timeout,
            max_retries=self.retries,
            http_client=openai.DefaultHttpxClient(transport=BoundedTransport(self.timeout)),
        )
        try:
            self._client.with_options(max_retries=0, timeout=min(self.timeout, 10)).models.list()
        except openai.APIConnectionError as error:
            raise UserError(
                f"{self.group}.base_url: no server answers at {self.base_url} ({error.__cause__ or error}).\n"
                f"Start one, or set the address of one; llm=smollm2 and captioner=annotations need no server"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._key_error() from error
        except openai.OpenAIError:
            return  # some servers do not list their models

    def complete(self, messages: list[Any], seed: int, **options: Any) -> str:
        """Returns the reply to a chat, at most `MAX_REPLY` characters of it.

        Raises:
            ItemError: There is no reply, or it was cut short.
            UserError: All other requests would fail, too.
        """
        response = self._send(messages, seed, options)
        choices: Any = getattr(response, "choices", None)
        message = getattr(choices[0], "message", None) if choices else None
        if message is None:
            raise ItemError(
                f"the answer of {self.base_url} is no chat completion; "
                f"does {self.group}.base_url end in /v1?",
                self._one_line(response),
            )
        content = getattr(message, "content", None)
        text = clean(content if isinstance(content, str) else "")
        if choices[0].finish_reason == "length":
            raise ItemError(f"the reply is too long: set {self.group}.max_tokens to a larger number", text)
        return text

    def _send(self, messages: list[Any], seed: int, options: dict[str, Any]) -> Any:
        import openai

        parameters = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": seed,
        }
        names = {name: self._renamed.get(name, name) for name in parameters}
        sent: dict[str, Any] = {name: parameters[key] for key, name in names.items() if name}
        try:
            create: Any = self._client.chat.completions.create
            return create(model=self.model, messages=messages, **sent, **options)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._key_error() from error
        except openai.NotFoundError as error:
            settings = f"{self.group}.model or {self.group}.base_url"
            message = f"{settings}: {self.base_url} has no model {self.model} ({self._one_line(error)})"
            raise UserError(message) from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if self._learn_refusal(error, sent):
                return self._send(messages, seed, options)
            raise self._item_error(error) from error
        except openai.OpenAIError as error:
            raise self._item_error(error) from error
        except ValueError as error:  # of the decoders of JSON and Unicode
            raise ItemError(f"the answer of {self.base_url} is no JSON: {self._one_line(error)}") from error

    def _learn_refusal(self, error: "openai.APIStatusError", sent: dict[str, Any]) -> bool:
        """Returns whether a request without the refused parameter may succeed.

        Raises a UserError if the format of replies is refused, because every request needs it.
        """
        message = self._one_line(error)
        if not UNSUPPORTED.search(message):
            return False
        name = next((name for name in OPTIONAL if name in sent and re.search(rf"\b{name}\b", message)), None)
        if name is None:
            if re.search(r"\bresponse_format\b", message):
                raise UserError(
                    f"{self.group}.response_format: {self.base_url} takes another one ({message})"
                )
            return False
        self._renamed[name] = "max_completion_tokens" if name == "max_tokens" else None
        log.warning("%s refuses %s; requests go on without it (%s)", self.base_url, name, message)
        return True

    def _key_error(self) -> UserError:
        state = "is not set" if self._key == NO_KEY else "was refused"
        setting = f"{self.api_key_variable} ({self.group}.api_key_variable)"
        return UserError(f"{self.base_url} asks for a key, and the environment variable {setting} {state}")

    def _item_error(self, error: Exception) -> ItemError:
        message = f"{self.base_url} did not answer: {self._one_line(error)}"
        if "timed out" in message:
            message += f" A response may take {self.group}.timeout={self.timeout:g} seconds"
        return ItemError(message)

    def _one_line(self, answer: Any) -> str:
        """Returns the answer of a server in one line, without the key, which some servers repeat."""
        return " ".join(clean(str(answer)).replace(self._key, "<key>").split())[:500]


def clean(text: str) -> str:
    """Returns the beginning of an external text, as valid Unicode and without control characters."""
    valid = text[:MAX_REPLY].encode("utf-8", "replace").decode()
    return CONTROL.sub("", valid)
