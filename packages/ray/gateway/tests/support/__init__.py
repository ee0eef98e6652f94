"""What the gateway's tests share."""
