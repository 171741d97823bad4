"""A store whose endpoint is an IPv6 address: real requests to a real MinIO through [::1]."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from dev.minio_server import MinioServer
from tests.support.relay import Relay
from workflow.store import open_store


async def test_store_at_an_ipv6_address(minio_server: MinioServer, bucket: str) -> None:
    async with Relay(minio_server.port).running("::1") as relay:
        endpoint = quote(f"http://[::1]:{relay.port}", safe="")
        store = open_store(
            f"s3://{bucket}/prefix?endpoint={endpoint}",
            access_key=minio_server.access_key,
            secret_key=minio_server.secret_key,
        )
        await asyncio.to_thread(store.create, "key", b"data", "put-1")
        found = await asyncio.to_thread(store.get, "key")
        store.close()
    assert found == b"data"
