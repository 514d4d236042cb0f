"""A table, a column and an index get other names."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade():
    op.rename_table("customers", "clients")
    op.alter_column("clients", "full_name", new_column_name="name", existing_type=sa.String(100))
    op.execute("ALTER INDEX orders_by_client RENAME TO orders_client")


def downgrade():
    op.execute("ALTER INDEX orders_client RENAME TO orders_by_client")
    op.alter_column("clients", "name", new_column_name="full_name", existing_type=sa.String(100))
    op.rename_table("clients", "customers")
