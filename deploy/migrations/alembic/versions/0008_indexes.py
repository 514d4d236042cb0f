"""Indexes on tables in use: concurrently, outside of a transaction, as Alembic's documentation has it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("clients_state", "clients", ["state", "created_at"], postgresql_concurrently=True)
        op.create_index(
            "clients_email_lower", "clients", [sa.text("lower(email)")], postgresql_concurrently=True
        )
        op.create_index(
            "orders_open",
            "orders",
            ["placed_on"],
            postgresql_where=sa.text("status = 'open'"),
            postgresql_concurrently=True,
        )
        op.drop_index("orders_client", table_name="orders", postgresql_concurrently=True)
        op.create_index(
            "orders_client",
            "orders",
            ["client_id"],
            postgresql_include=["total"],
            postgresql_concurrently=True,
        )


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("orders_client", table_name="orders", postgresql_concurrently=True)
        op.create_index("orders_client", "orders", ["client_id"], postgresql_concurrently=True)
        op.drop_index("orders_open", table_name="orders", postgresql_concurrently=True)
        op.drop_index("clients_email_lower", table_name="clients", postgresql_concurrently=True)
        op.drop_index("clients_state", table_name="clients", postgresql_concurrently=True)
