"""The waiting room: who may claim next, decided by one script on Redis (`lua/visit.lua`), and told who waits."""
