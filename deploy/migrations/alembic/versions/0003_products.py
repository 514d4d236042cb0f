"""Products, with a key of two columns."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "products",
        sa.Column("shop", sa.Integer, nullable=False),
        sa.Column("sku", sa.String(32), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("price", sa.Numeric(10, 2), nullable=False),
        sa.Column("external_id", sa.Uuid),
        sa.PrimaryKeyConstraint("shop", "sku"),
        sa.CheckConstraint("price > 0", name="products_price_check"),
    )
    products = sa.table("products", sa.column("shop"), sa.column("sku"), sa.column("title"), sa.column("price"))
    op.bulk_insert(
        products,
        [
            {"shop": 1, "sku": "pen", "title": "Pen", "price": 2},
            {"shop": 1, "sku": "ink", "title": "Ink", "price": 5},
            {"shop": 2, "sku": "pen", "title": "Pen", "price": 3},
        ],
    )


def downgrade():
    op.drop_table("products")
