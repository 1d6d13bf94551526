#!/bin/sh
# Five kills of embedding jobs at random moments: nothing lost, nothing doubled. Fifty: test_embed_kills_long.sh.
KILLS=5
. "$2/tests/e2e/embed_kills.sh"
