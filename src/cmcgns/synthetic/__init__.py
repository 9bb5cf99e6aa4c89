"""A small world of patients: findings -> image, report, labels, boxes, masks, in the raw layouts."""
