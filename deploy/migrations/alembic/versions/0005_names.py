"""Rows are put right, then a column may not be null any more."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade():
    customers = sa.table("customers", sa.column("full_name", sa.String), sa.column("email", sa.String))
    op.execute(
        customers.update()
        .where(customers.c.full_name.is_(None))
        .values(full_name=sa.func.split_part(customers.c.email, "@", 1))
    )
    op.alter_column("customers", "full_name", existing_type=sa.String(100), nullable=False)


def downgrade():
    op.alter_column("customers", "full_name", existing_type=sa.String(100), nullable=True)
