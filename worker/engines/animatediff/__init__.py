"""AnimateDiff with SparseCtrl: the image, and more keyframes, become a clip."""
