"""fal's queue: Pika, Kling, Wan and others behind one key."""
