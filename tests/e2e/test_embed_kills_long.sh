#!/bin/sh
# Fifty kills of embedding jobs at random moments, over all forms of output: nothing lost, nothing doubled.
KILLS=50
. "$2/tests/e2e/embed_kills.sh"
