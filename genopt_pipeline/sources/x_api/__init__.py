"""The X API as a source of metrics: a thin client that stays within its budget.

``XApiSource`` is the source, ``XApiConfig`` its settings; the rest is made for these two.
"""

from genopt_pipeline.sources.x_api.config import (
    AnalyticsConfig,
    OAuth1Credentials,
    OAuth2Credentials,
    RequestLimits,
    XApiConfig,
    oauth_credentials,
)
from genopt_pipeline.sources.x_api.errors import (
    XApiRateLimitedError,
    XApiRefusedError,
    XApiTransientError,
)
from genopt_pipeline.sources.x_api.source import XApiSource
from genopt_pipeline.sources.x_api.state import FileStateStore, MemoryStateStore, StateStore

__all__ = [
    "AnalyticsConfig",
    "FileStateStore",
    "MemoryStateStore",
    "OAuth1Credentials",
    "OAuth2Credentials",
    "RequestLimits",
    "StateStore",
    "XApiConfig",
    "XApiRateLimitedError",
    "XApiRefusedError",
    "XApiSource",
    "XApiTransientError",
    "oauth_credentials",
]
