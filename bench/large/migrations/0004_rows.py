"""Other values in each hundredth row."""

from django.db import migrations

CHANGE = "UPDATE large_line SET size = number WHERE id % 100 = 0"
BACK = "UPDATE large_line SET size = 0 WHERE id % 100 = 0"


class Migration(migrations.Migration):
    """Write them."""

    dependencies = [("large", "0003_index")]
    operations = [migrations.RunSQL(CHANGE, BACK)]
