"""Orders, with an index and a check; the key is a serial."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Numeric(12, 2), nullable=False, server_default="0"),
        sa.Column("status", sa.String(20), nullable=False, server_default="open"),
        sa.CheckConstraint("total >= 0", name="orders_total_positive"),
    )
    op.create_index("orders_by_client", "orders", ["client_id"])


def downgrade():
    op.drop_index("orders_by_client", table_name="orders")
    op.drop_table("orders")
