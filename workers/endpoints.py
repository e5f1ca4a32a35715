"""Where classifiers answer that are no file of a bundle: a part of the settings that training shares.

A manifest names an endpoint; its address and its token stand here and nowhere else.
"""

from pydantic import Field, HttpUrl, PositiveFloat, PositiveInt, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.manifest import EndpointId


class Endpoints(BaseSettings):
    """Addresses of classifiers, and how long they are waited for.

    Attributes:
        CLASSIFIER_ENDPOINTS: Base URLs by endpoint, one variable each: `CLASSIFIER_ENDPOINTS__knee_gbt=http://gbt:8080`.
        CLASSIFIER_TOKENS: Bearer tokens by endpoint, likewise: `CLASSIFIER_TOKENS__knee_gbt=…`.
        CLASSIFIER_CONNECT_S: The longest wait for a connection.
        CLASSIFIER_READ_S: The longest silence of a classifier that is answering.
        CLASSIFIER_CALL_S: The longest that one call may take, with all its tries.
        CLASSIFIER_TRIES: How often a call is tried while the connection fails or the answer is 5xx or 429.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=True, env_nested_delimiter="__")

    CLASSIFIER_ENDPOINTS: dict[EndpointId, HttpUrl] = {}
    CLASSIFIER_TOKENS: dict[EndpointId, SecretStr] = {}
    CLASSIFIER_CONNECT_S: PositiveFloat = 3
    CLASSIFIER_READ_S: PositiveFloat = 30
    CLASSIFIER_CALL_S: PositiveFloat = 60
    CLASSIFIER_TRIES: PositiveInt = Field(default=6, le=100)

    def endpoint_variables(self) -> dict[str, str]:
        """The environment variables that make the same addresses, tokens and limits again."""
        addresses = {f"CLASSIFIER_ENDPOINTS__{name}": str(url) for name, url in self.CLASSIFIER_ENDPOINTS.items()}
        tokens = {f"CLASSIFIER_TOKENS__{name}": t.get_secret_value() for name, t in self.CLASSIFIER_TOKENS.items()}
        limits = self.model_dump(include={name for name in Endpoints.model_fields if name.endswith(("_S", "_TRIES"))})
        return {**addresses, **tokens, **{name: str(value) for name, value in limits.items()}}

    @staticmethod
    def none() -> "Endpoints":
        """No address at all, whatever the environment says."""
        return Endpoints.model_construct()

    @field_validator("CLASSIFIER_ENDPOINTS")
    @classmethod
    def _are_plain_addresses(cls, urls: dict[str, HttpUrl]) -> dict[str, HttpUrl]:
        for name, url in urls.items():
            if url.username or url.password or url.query or url.fragment:
                raise ValueError(f"the address of {name} is to hold no user, password, query or fragment")
        return urls
