ALTER TABLE accounts DROP CONSTRAINT accounts_solvent;
ALTER TABLE accounts DROP COLUMN balance;
