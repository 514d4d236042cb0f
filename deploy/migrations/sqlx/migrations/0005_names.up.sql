ALTER TABLE accounts RENAME COLUMN owner TO holder;
ALTER TABLE transfers RENAME TO payments;
