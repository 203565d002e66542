"""Chat models behind servers that speak OpenAI's protocol: llama.cpp, vLLM, Ollama, LM Studio and most providers."""

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from .errors import ItemError, UserError

NO_KEY = "no-key-is-set"  # the client insists on one


@dataclass
class Server:
    """A chat model called `model` at `base_url`, which takes `batch_size` requests at the same time.

    The key is read from the environment variable that `api_key_variable` names; servers of one's own need none. A request
    that is refused for now (429, 5xx), or not answered within `timeout` seconds, is sent again up to `retries` times, after
    as long as the server says or twice as long each time.
    """

    model: str
    base_url: str
    api_key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.2
    max_tokens: int = 256
    timeout: float = 120.0
    retries: int = 5
    batch_size: int = 8

    transient: ClassVar[tuple[str, ...]] = ("api_key_variable", "timeout", "retries", "batch_size")
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ()
    group: ClassVar[str]
    """The group of the configuration that a subclass is an option of."""

    def connect(self) -> None:
        """Opens connections; raises a UserError when no server answers or it refuses the key."""
        import openai

        self._key = os.environ.get(self.api_key_variable) or NO_KEY
        self._client = openai.OpenAI(base_url=self.base_url, api_key=self._key, timeout=self.timeout, max_retries=self.retries)
        try:
            self._client.with_options(max_retries=0, timeout=min(self.timeout, 10)).models.list()
        except openai.APIConnectionError as error:
            raise UserError(
                f"{self.group}.base_url: no server answers at {self.base_url} ({error.__cause__ or error}).\n"
                f"Start one, or set the address of one; llm=smollm2 and captioner=annotations need no server"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._refused() from error
        except openai.APIStatusError:
            return  # some servers do not list their models

    def complete(self, messages: list[Any], seed: int, **options: Any) -> str:
        """Returns the reply to a chat; raises an ItemError when there is none or it was cut short, a UserError when no other request would do better."""
        import openai

        try:
            response: Any = self._client.chat.completions.create(
                model=self.model, messages=messages, temperature=self.temperature, max_tokens=self.max_tokens, seed=seed, **options
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._refused() from error
        except openai.NotFoundError as error:
            raise UserError(f"{self.group}.model or {self.group}.base_url: {self.base_url} has no model {self.model} ({self._plain(error)})") from error
        except openai.OpenAIError as error:
            raise ItemError(f"{self.base_url} did not answer: {self._plain(error)}") from error
        choices = getattr(response, "choices", None)
        if not choices or choices[0].message is None:
            raise ItemError(f"{self.base_url} answered with something else than a chat; does {self.group}.base_url end in /v1?", self._plain(response))
        text = choices[0].message.content or ""
        if choices[0].finish_reason == "length":
            raise ItemError(f"the reply is too long: set {self.group}.max_tokens to a larger number", text)
        return text

    def _refused(self) -> UserError:
        found = "is not set" if self._key == NO_KEY else "was refused"
        return UserError(f"{self.base_url} asks for a key, and the environment variable {self.api_key_variable} ({self.group}.api_key_variable) {found}")

    def _plain(self, said: Any) -> str:
        """Returns what a server said, in one line and without the key, which some servers repeat."""
        return " ".join(str(said).replace(self._key, "<key>").split())[:500]
