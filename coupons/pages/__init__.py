"""The pages for customers: make a claim, see what becomes of it, see all coupons."""
