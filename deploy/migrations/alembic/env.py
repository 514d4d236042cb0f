"""Alembic's environment. The database is DATABASE_URL, as SQLAlchemy spells it."""

import asyncio
import os
from logging.config import fileConfig

from alembic import context
from sqlalchemy import create_engine, pool
from sqlalchemy.ext.asyncio import create_async_engine

import models

fileConfig(context.config.config_file_name)
url = os.environ["DATABASE_URL"]


def options():
    return dict(
        target_metadata=models.metadata,
        compare_type=True,
        compare_server_default=True,
        include_schemas=True,
        transaction_per_migration=True,
    )


def migrate(connection):
    context.configure(connection=connection, **options())
    with context.begin_transaction():
        context.run_migrations()


async def migrate_async():
    """asyncpg has no other way."""
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options())
    with context.begin_transaction():
        context.run_migrations()
elif "+asyncpg:" in url:
    asyncio.run(migrate_async())
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        migrate(connection)
