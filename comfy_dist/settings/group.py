"""A group of settings, and where its values come from: defaults, YAML file, environment, flags; later wins."""

from __future__ import annotations

from typing import Any

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict


class Group(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="COMFYUI_", env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, file_values.get(cls, {}))


#: What load() read from the YAML file, for the class that is being made.
file_values: dict[type, dict[str, Any]] = {}
