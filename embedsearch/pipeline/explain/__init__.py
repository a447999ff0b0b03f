"""Why two items are alike: their score as a sum over pairs of places or words."""
