"""A column of JSON, filled from what is known."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("clients", sa.Column("settings", sa.JSON))
    clients = sa.table("clients", sa.column("settings", sa.JSON))
    op.execute(clients.update().values(settings={"mail": True, "colours": ["red"]}))


def downgrade():
    op.drop_column("clients", "settings")
