"""The schema as the application wants it at the last revision: what `alembic check` compares the database with."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData()

clients = sa.Table(
    "clients",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("email", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("phone", sa.String(40)),
    sa.Column("state", sa.String(20), nullable=False, server_default="active"),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("settings", sa.JSON),
    sa.UniqueConstraint("email", name="clients_email_unique"),
    sa.Index("clients_state", "state", "created_at"),
    sa.Index("clients_email_lower", sa.text("lower(email)")),
)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("client_id", sa.BigInteger, nullable=False),
    sa.Column("total", sa.Numeric(12, 2), nullable=False, server_default="0"),
    sa.Column("status", sa.String(20), nullable=False, server_default="open"),
    sa.Column("tags", pg.ARRAY(sa.Text)),
    sa.Column("placed_on", sa.Date),
    sa.CheckConstraint("total >= 0", name="orders_total_positive"),
    sa.Index("orders_client", "client_id", postgresql_include=["total"]),
    sa.Index("orders_open", "placed_on", postgresql_where=sa.text("status = 'open'")),
)

products = sa.Table(
    "products",
    metadata,
    sa.Column("shop", sa.Integer, primary_key=True),
    sa.Column("sku", sa.String(32), primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("price", sa.Numeric(10, 2), nullable=False),
    sa.Column("external_id", sa.Uuid),
    sa.UniqueConstraint("shop", "title", name="products_title_unique"),
    sa.CheckConstraint("price > 0", name="products_price_check"),
    comment=None,
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("payload", sa.LargeBinary),
    sa.Column("weight", sa.Double, nullable=False, server_default=sa.text("1.0")),
    sa.Column("is_seen", sa.Boolean, nullable=False, server_default=sa.false()),
    schema="audit",
)
