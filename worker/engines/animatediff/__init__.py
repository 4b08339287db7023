"""AnimateDiff through SparseCtrl: the picture, and more keyframes, become a clip."""
