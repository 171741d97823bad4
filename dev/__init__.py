"""What a developer's machine needs beside Python: servers built from source, and a real Kubernetes on one machine.

Called by the Makefile and by tests; nothing here is shipped to users.
"""
