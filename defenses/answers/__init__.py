"""What is told: defences that change the answer."""
