ALTER TABLE accounts ADD COLUMN balance numeric(14,2) NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD CONSTRAINT accounts_solvent CHECK (balance >= 0);
