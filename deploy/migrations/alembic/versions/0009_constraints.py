"""Constraints on tables with rows, one of them without looking at the rows there are at first."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade():
    op.create_unique_constraint("products_title_unique", "products", ["shop", "title"])
    op.execute("ALTER TABLE orders DROP CONSTRAINT orders_total_positive")
    op.execute("ALTER TABLE orders ADD CONSTRAINT orders_total_positive CHECK (total >= 0) NOT VALID")
    op.execute("ALTER TABLE orders VALIDATE CONSTRAINT orders_total_positive")


def downgrade():
    op.drop_constraint("products_title_unique", "products", type_="unique")
