"""Wider types."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade():
    op.alter_column("clients", "name", existing_type=sa.String(100), type_=sa.String(200), existing_nullable=False)
    op.alter_column("clients", "phone", existing_type=sa.String(20), type_=sa.String(40))


def downgrade():
    op.alter_column("clients", "phone", existing_type=sa.String(40), type_=sa.String(20))
    op.alter_column("clients", "name", existing_type=sa.String(200), type_=sa.String(100), existing_nullable=False)
