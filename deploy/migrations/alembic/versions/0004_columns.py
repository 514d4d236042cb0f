"""New columns on tables with rows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade():
    op.execute(sa.text("INSERT INTO customers (email, full_name) VALUES ('ann@example.com', 'Ann'), ('bob@example.com', NULL)"))
    op.add_column("customers", sa.Column("phone", sa.String(20)))
    op.add_column("customers", sa.Column("state", sa.String(20), nullable=False, server_default="active"))
    op.add_column("orders", sa.Column("tags", pg.ARRAY(sa.Text)))
    op.add_column("orders", sa.Column("placed_on", sa.Date))


def downgrade():
    op.drop_column("orders", "placed_on")
    op.drop_column("orders", "tags")
    op.drop_column("customers", "state")
    op.drop_column("customers", "phone")
    op.execute(sa.text("DELETE FROM customers"))
