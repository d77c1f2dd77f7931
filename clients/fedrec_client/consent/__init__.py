"""What a device agrees to: its policy, its ledger, and the rule of its answers. No torch, scipy, Flower or pydantic."""
